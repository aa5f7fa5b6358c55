#!lua
-- Accept jobs: each gets a record and is queued, or is known already.
-- Uses     clock calls record runs outbox dead later lanes memory discarded undone badges
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id, made by the caller
-- ARGV[2]  run
-- ARGV[3]  batch size    ARGV[4]  linger, ms
-- ARGV[5]  how long results, and a run that is over, are kept, ms
-- ARGV[6]  1 if they are urgent: they overtake the bulk of their org
-- ARGV[7]  how many jobs may wait
-- ARGV[8]  how many duplicates there were beside them
-- ARGV[9]  JSON: where the run came from, fields of its hash; those that it has stay. '' says nothing
-- ARGV[10] JSON: the badges of these jobs, in one case, each once
-- ARGV[11] what to do about new jobs whose badge and customer were accepted before, with another content: 'hold'
--          makes dead letters of them, 'count' only says it, '' doesn't look
-- ARGV[12] when a run that begins so is to be sent, ms, or inf: when somebody starts it; '' at once
-- ARGV[13]… three for each of at most 1,000 jobs: its id; what its id is made of (HOW: "" of its content,
--          "own:<40 letters>" a producer's own, by its hash and its content's; "again:<id>" also of the undone
--          job in whose place it is; "dead:<class of reason>": it becomes a dead letter at once); its record from
--          "enqueued_at" on
-- Returns  {answers, at}: one ANSWER for each job, and when to look at the org (ms, -1 never);
--          or {"", -1, waiting}: that number of jobs waits, and there is no room for what is new here; or
--          {"", -1, -1}: the server has no memory left for new jobs; nothing was accepted
-- Repeated: the same call id gets the same answer, unless there was no room. Under another call id, what this
--          run and row brought in before is accepted again, and is counted once.
local call, run, ttl_ms, urgent, repeats = ARGV[1], ARGV[2], ARGV[5], ARGV[6], ARGV[11]
local FIRST, EACH, SPARE = 13, 3, 0.95
local before = recall(call)
if before then return cjson.decode(before) end

-- What is known already needs no room, but is looked for only where it is short.
local function news()
  local new = 0
  for at = FIRST, #ARGV, EACH do
    local id, how = ARGV[at], ARGV[at + 1]
    local own = how:match('^own:(.*)')
    local is_known = own and remembered_own(own) or not own and is_remembered(id)
    if how:sub(1, 5) ~= 'dead:' and redis.call('EXISTS', K.job .. id) == 0 and not is_known then new = new + 1 end
  end
  return new
end

local waiting = queued_jobs() + redis.call('ZCARD', K.retry)
local room = tonumber(ARGV[7]) - waiting
if (#ARGV - FIRST + 1) / EACH > room and news() > math.max(0, room) then return {'', -1, waiting} end

-- The last memory is for what is accepted already: claims, settlements, and whatever makes room.
local info = redis.call('INFO', 'memory')
local most = tonumber(info:match('\nmaxmemory:(%d+)'))
if most > 0 and tonumber(info:match('\nused_memory:(%d+)')) > most * SPARE and news() > 0 then return {'', -1, -1} end

local answers, ready, born = {}, {}, {}
local duplicates, invalid, near = tonumber(ARGV[8]), 0, 0

-- What this run and row brought in before, by its kind.
local KNOWN_AGAIN = {[KIND.invalid] = ANSWER.invalid, [KIND['repeat']] = ANSWER.held}

-- Records of new jobs, name and text in turns, which are written at once.
local names, records, taken = {}, {}, {}
for at = FIRST, #ARGV, EACH do names[#names + 1] = K.job .. ARGV[at] end
local there_already = #names > 0 and redis.call('MGET', unpack(names)) or {}

-- The record of a job that is known; one that came twice in this call is found among the new ones.
local function record_of(n)
  if not taken[names[n]] then return there_already[n] end
  write_many(records)
  records = {}
  return redis.call('GET', names[n])
end

-- A job that has a record.
local function known(id, raw, rest)
  local there, mine = parse(raw), parse(accepted(rest))
  local fingerprint = mine[FIELD.fingerprint]
  if there[FIELD.run] == run and there[FIELD.row] == mine[FIELD.row] and there[FIELD.fingerprint] == fingerprint then
    return KNOWN_AGAIN[there[FIELD.kind]] or ANSWER.repeated
  end
  duplicates = duplicates + 1
  if fingerprint ~= '' and there[FIELD.fingerprint] ~= fingerprint then return ANSWER.conflict end
  if there[FIELD.state] == STATE.undone then return ANSWER.undone end
  if there[FIELD.state] == STATE.dead and there[FIELD.replayed_as] ~= '' then return ANSWER.replaced end
  if not is_listed(id, there) then return ANSWER.duplicate end
  return there[FIELD.kind] == KIND.in_doubt and ANSWER.in_doubt or ANSWER.dead
end

-- A job without a record that was accepted before.
local function remembered(answer)
  duplicates = duplicates + 1
  return answer
end

-- Of a job that is new: whether there was one of its badge and customer before. Where a producer gives ids, it knows.
local function is_near(id, how)
  if repeats == '' or how ~= '' or not has_met_another(id) then return false end
  near = near + 1
  return true
end

local function die(id, kind, code, message, rest)
  local fields = parse(accepted(rest))
  fields[FIELD.kind], fields[FIELD.code], fields[FIELD.message] = kind, code, message
  bury(id, fields, nil)
end

-- Whether a job is undone; if so, it says from now on which one is sent in its place.
local function gives_way(undone, id)
  local fields = read(undone)
  if not fields then return is_undone(undone) end
  if fields[FIELD.state] ~= STATE.undone or fields[FIELD.job_kind] == REVOKE then return false end
  fields[FIELD.replayed_as] = id
  redis.call('SET', K.job .. undone, pack(fields), 'KEEPTTL')
  return true
end

local function accept(id, how, rest)
  local undone = how:match('^again:(.*)')
  if undone and not gives_way(undone, id) then return remembered(ANSWER.duplicate) end
  local own = how ~= '' and how:match('^own:(.*)')
  if own then
    local said = remembered_own(own)
    if said then return remembered(said == own:sub(21) and ANSWER.remembered or ANSWER.conflict) end
    remember_own(own)
  elseif not remember(id) then
    return remembered(is_undone(id) and ANSWER.undone or ANSWER.remembered)
  end
  born[#born + 1] = id
  local has_met = is_near(id, how)
  if has_met and repeats == 'hold' then
    die(id, KIND['repeat'], 'repeat', HELD, rest)
    return ANSWER.held
  elseif is_cancelled(run) then
    die(id, KIND.cancelled, 'cancelled', '', rest)
    return ANSWER.cancelled
  else
    records[#records + 1], records[#records + 2] = K.job .. id, accepted(rest)
    ready[#ready + 1] = id
  end
  return has_met and ANSWER.similar or ANSWER.accepted
end

local function refuse(id, class, rest)
  bury(id, parse(accepted(rest)), nil, class ~= '' and class or nil)
  born[#born + 1] = id
  invalid = invalid + 1
  return ANSWER.invalid
end

for at = FIRST, #ARGV, EACH do
  local id, how, rest, n = ARGV[at], ARGV[at + 1], ARGV[at + 2], #answers + 1
  local class, answer, raw = how ~= '' and how:match('^dead:(.*)'), nil, record_of(n)
  if raw then
    answer = known(id, raw, rest)
  elseif class then
    answer = refuse(id, class, rest)
  else
    answer = accept(id, how, rest)
  end
  taken[names[n]] = true
  answers[n] = answer
end
write_many(records)

for _, over in ipairs(redis.call('ZRANGEBYSCORE', K.ended, '-inf', int(NOW), 'LIMIT', 0, 100)) do
  if redis.call('EXISTS', K.run .. over) == 0 then
    redis.call('ZREM', K.runs, over)
    redis.call('ZREM', K.ended, over)
  end
end
begin_run(run, ttl_ms)
if ARGV[9] ~= '' then
  for name, value in pairs(cjson.decode(ARGV[9])) do redis.call('HSETNX', K.run .. run, name, value) end
end
if ARGV[12] ~= '' then redis.call('HSETNX', K.run .. run, 'starts_at', ARGV[12]) end
note_badges(cjson.decode(ARGV[10]))
local list = lane(urgent)
if #born > 0 then redis.call('RPUSH', K.jobs .. run, unpack(born)) end
if later.is(run) then
  later.put(run, ready)
elseif #ready > 0 then
  redis.call('RPUSH', list, unpack(ready))
end
count(run, 'queued', #ready)
count(run, 'total', #born)
count(run, 'invalid', invalid)
count(run, 'duplicates', duplicates)
count(run, 'near_duplicates', near)
write_ends()
write_remembered()
stat('accepted', #born)
local at = NEVER
if later.is(run) then
  at = tonumber(redis.call('HGET', K.run .. run, 'starts_at'))
elseif #ready > 0 then
  at = redis.call('LLEN', list) >= tonumber(ARGV[3]) and NOW or NOW + ARGV[4]
end
local answer = {table.concat(answers), instant(at)}
memoize(call, cjson.encode(answer))
return answer
