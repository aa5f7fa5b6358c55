#!lua
-- Replay dead letters: each is queued again with a new attempt count, or takes up life as a new job.
-- Uses     clock calls record runs outbox dead later lanes memory badges
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  the replay: the run of the new jobs, and the entry of the audit trail that counts; '' has neither
-- ARGV[3]  how long results, and the list of what it queued again, are kept, ms
-- ARGV[4]  1 if those that take a badge back are meant as well
-- ARGV[5]… four for each of at most 1,000: id; '' to queue it again, or the id of the new job; HOW that id is made and
--          the record of the new job, as in enqueue.lua
-- Returns  JSON: {replayed, duplicates, skipped, undos, cancelling}; undos take a badge back, and were left; skipped
--          ones were no dead letters any more, or invalid, which only a new job can mend; or their run isn't to be
--          sent yet, and the new job's is; or its cancellation was broken off: cancelling names such a run
-- Repeated: the same call id gets the same answer.
local call, run, ttl_ms, undos_too = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local before = recall(call)
if before then return before end
local done = {replayed = 0, duplicates = 0, skipped = 0, undos = 0, cancelling = ''}
local FIRST = 5
local queued_again, born, held, badges, goes_on = {}, {}, {}, {}, {}
local ends = {[K.queue] = {}, [K.urgent] = {}}

local function may_go_on(its_run)
  local is_half = is_being_cancelled(its_run)
  if is_half then done.cancelling = its_run end
  return not is_half
end

-- A person asked for it: a run that was cancelled goes on.
local function again(id, fields)
  local its_run = fields[FIELD.run]
  if not goes_on[its_run] then redis.call('HDEL', K.run .. its_run, 'cancelled') end
  goes_on[its_run], cancelled_runs[its_run] = true, false
  revive(fields)
  fields[FIELD.attempts], fields[FIELD.busy] = '0', ''
  wait_again(id, fields, 'dead', ends)
  queued_again[#queued_again + 1] = id
end

local function is_new(id, how)
  local own = how:match('^own:(.*)')
  if own and remembered_own(own) or not own and is_remembered(id) then return false end
  if own then remember_own(own) else remember(id) end
  return true
end

-- What takes the place of a job whose run isn't to be sent yet waits as well, or isn't accepted.
local function is_kept_back(its_run) return its_run ~= run and later.is(its_run) and not later.is(run) end

-- The old record stays as it is, as long as a result, so that importing it again can't issue it.
local function as_new(id, fields, new_id, how, rest)
  if redis.call('EXISTS', K.job .. new_id) == 1 or not is_new(new_id, how) then return false end
  local new = parse(accepted(rest))
  if fields[FIELD.urgent] == '1' then new[FIELD.urgent] = '1' end
  write(new_id, new)
  note_badges({one_case(new[FIELD.badge])})
  if later.is(run) then held[#held + 1] = new_id else redis.call('RPUSH', lane(new[FIELD.urgent]), new_id) end
  moved(run, nil, 'queued')
  count(run, 'total', 1)
  unlist(id, fields)
  fields[FIELD.replayed_as] = new_id
  write(id, fields, kept_ms(ttl_ms))
  note_end(id, 'replaced')
  born[#born + 1] = new_id
  return true
end

-- Those that are queued again as they are, taken off the list all at once.
local ids, as_they_are = {}, {}
for at = FIRST, #ARGV, 4 do ids[#ids + 1] = ARGV[at] end
local fields_of = reading(ids)
for n, id in ipairs(ids) do
  local fields = ARGV[FIRST + 4 * n - 3] == '' and fields_of(n)
  local is_sendable = fields and fields[FIELD.state] == STATE.dead and fields[FIELD.kind] ~= KIND.invalid
  is_sendable = is_sendable and (undos_too or fields[FIELD.job_kind] ~= REVOKE)
  if is_sendable and may_go_on(fields[FIELD.run]) then as_they_are[id] = fields end
end
local unlisted = many.unlist(as_they_are)

for n, id in ipairs(ids) do
  local at, fields = FIRST + 4 * n - 4, as_they_are[id] or fields_of(n)
  local new_id = ARGV[at + 1]
  local is_dead = fields and fields[FIELD.state] == STATE.dead
  -- One that takes a badge back issues none, however it is mended.
  is_dead = is_dead and (new_id == '' or fields[FIELD.job_kind] ~= REVOKE)
  if new_id == '' and unlisted[id] then
    unlisted[id] = nil
    again(id, fields)
    done.replayed = done.replayed + 1
  elseif is_dead and new_id == '' and not undos_too and fields[FIELD.job_kind] == REVOKE then
    done.undos = done.undos + 1
  elseif not is_dead or new_id == '' or not is_listed(id, fields) or is_kept_back(fields[FIELD.run]) then
    done.skipped = done.skipped + 1
  elseif as_new(id, fields, new_id, ARGV[at + 2], ARGV[at + 3]) then
    done.replayed = done.replayed + 1
  else
    done.duplicates = done.duplicates + 1
  end
  if fields then badges[fields[FIELD.badge]] = true end
end
for badge in pairs(badges) do redis.call('ZREM', K.missing, badge) end
if #born > 0 then
  redis.call('RPUSH', K.jobs .. run, unpack(born))
  begin_run(run, ttl_ms)
  later.put(run, held)
end
for list, of_it in pairs(ends) do
  if #of_it > 0 then redis.call('RPUSH', list, unpack(of_it)) end
end
write_ends()
write_remembered()
-- These keep their runs; by this list they can be followed, and cancelled, as this replay.
if run ~= '' and #queued_again > 0 then
  redis.call('RPUSH', K.jobs .. run, unpack(queued_again))
  redis.call('PEXPIRE', K.jobs .. run, ttl_ms)
end
audited(run, done.replayed)
return memoize(call, cjson.encode(done))
