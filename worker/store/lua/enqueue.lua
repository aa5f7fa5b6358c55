#!lua
-- Accept jobs: each becomes a record and is queued, or is known already.
-- KEYS[1]  the org's slot
-- ARGV[1]  call id, made by the caller
-- ARGV[2]  run
-- ARGV[3]  JSON: {{id, row, fingerprint or "", kind or "", field, value, ...}, ...}, at most 1,000;
--          a kind makes it a dead letter at once (an invalid row)
-- ARGV[4]  JSON: cfg of the gate, and ttl_ms (how long results, and a run that is over, are kept)
-- ARGV[5]  1 if they are urgent: they overtake the bulk of their org
-- ARGV[6]  how many jobs may wait
-- ARGV[7]  how many duplicates there were beside them
-- Returns  JSON: {answers, at}: a letter of A per item, and when to look at the org (ms, -1 never)
--          or {full}: how many jobs wait, and there is no room for what is new here: nothing was accepted
-- Repeated: the same call id gets the same answer, unless that was full. Under another call id, what this
--          run and row brought in before is repeated or invalid, and is counted once.
local call, run, items, cfg = ARGV[1], ARGV[2], cjson.decode(ARGV[3]), cjson.decode(ARGV[4])
local urgent = ARGV[5] == '1'
local before = said(call)
if before then return before end

-- Jobs that are known already need no room, but are looked for only where it is short.
local function is_room(waiting)
  local room, new = tonumber(ARGV[6]) - waiting, 0
  if #items <= room then return true end
  for _, item in ipairs(items) do
    if item[4] == '' and redis.call('EXISTS', K.job .. item[1]) == 0 then new = new + 1 end
  end
  return new == 0 or new <= room
end

local waiting = redis.call('LLEN', K.queue) + redis.call('LLEN', K.urgent) + redis.call('LLEN', K.isolate)
  + redis.call('ZCARD', K.retry)
if not is_room(waiting) then return cjson.encode({full = waiting}) end

local answers, ready, born = {}, {}, {}
local duplicates, invalid = tonumber(ARGV[7]), 0

local function known(id, row, fingerprint)
  local record = redis.call('HMGET', K.job .. id,
    F.state, F.run, F.row, F.fingerprint, F.kind, F.replayed_as)
  if record[2] == run and record[3] == row and (record[4] or '') == fingerprint then
    return record[5] == 'invalid' and A.invalid or A.repeated
  end
  duplicates = duplicates + 1
  if fingerprint ~= '' and record[4] ~= fingerprint then return A.conflict end
  if record[1] ~= S.dead then return A.duplicate end
  if record[6] then return A.replaced end
  if not redis.call('ZSCORE', K.dead .. (record[5] or ''), id) then return A.duplicate end
  return record[5] == 'in_doubt' and A.in_doubt or A.dead
end

local now = int(NOW)
for n, item in ipairs(items) do
  local id, row, fingerprint, kind = item[1], item[2], item[3], item[4]
  local key = K.job .. id
  if redis.call('EXISTS', key) == 1 then
    answers[n] = known(id, row, fingerprint)
  else
    redis.call('HSET', key, F.state, S.queued, F.run, run, F.row, row, F.enqueued_at, now, unpack(item, 5))
    if fingerprint ~= '' then redis.call('HSET', key, F.fingerprint, fingerprint) end
    if urgent then redis.call('HSET', key, F.urgent, 1) end
    born[#born + 1] = id
    if kind == '' then
      ready[#ready + 1] = id
      answers[n] = A.accepted
    else
      bury(id, run, nil, kind)
      invalid = invalid + 1
      answers[n] = A.invalid
    end
  end
end

for _, ended in ipairs(redis.call('ZRANGEBYSCORE', K.ended, '-inf', int(NOW), 'LIMIT', 0, 100)) do
  if redis.call('EXISTS', K.run .. ended) == 0 then
    redis.call('ZREM', K.runs, ended)
    redis.call('ZREM', K.ended, ended)
  end
end
redis.call('HSETNX', K.run .. run, 'started_at', int(NOW))
redis.call('HSET', K.run .. run, 'ttl_ms', int(cfg.ttl_ms))
redis.call('ZADD', K.runs, 'NX', int(NOW), run)
if #born > 0 then redis.call('RPUSH', K.jobs .. run, unpack(born)) end
local list = urgent and K.urgent or K.queue
if #ready > 0 then redis.call('RPUSH', list, unpack(ready)) end
count(run, 'queued', #ready)
count(run, 'total', #born)
count(run, 'invalid', invalid)
count(run, 'duplicates', duplicates)
write_counts()
stat('accepted', #born)
local at = NEVER
if #ready > 0 then
  at = redis.call('LLEN', list) >= cfg.batch_size and NOW or NOW + cfg.linger_ms
end
return say(call, cjson.encode({answers = table.concat(answers), at = instant(at)}))
