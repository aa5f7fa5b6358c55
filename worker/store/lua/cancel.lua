#!lua flags=allow-oom
-- Cancel jobs that wait: each becomes a dead letter, cancelled. What is being sent is left to be settled; if
-- the run itself is cancelled, what would wait again is cancelled then.
-- Without ids, up to 5,000 ids of dead jobs are taken off each end of each lane: what is left there counts what
-- waits.
-- On a full server as well.
-- Uses     clock calls record sending runs outbox dead later lanes gate
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  the entry of the audit trail that counts them, or ''
-- ARGV[3]  the run that is cancelled as a whole, or ''
-- ARGV[4]  '' the ids follow, at most 1,000; or the place in that run, from 0, of the first of 1,000
-- ARGV[5]… ids
-- Returns  how many were cancelled
-- Repeated: the same call id gets the same answer.
local call, action, run = ARGV[1], ARGV[2], ARGV[3]
local before = recall(call)
if before then return tonumber(before) end
if run ~= '' and redis.call('EXISTS', K.run .. run) == 1 then redis.call('HSET', K.run .. run, 'cancelled', '1') end
local ids, cancelled = {unpack(ARGV, 5)}, 0
read_gate({})
if ARGV[4] ~= '' then ids = redis.call('LRANGE', K.jobs .. run, ARGV[4], ARGV[4] + 999) end
local holders, raws, seen = carriers(ids), records_of(ids), {}

-- Its id may stay in the middle of a lane: whatever pops it looks at the record.
local function cancel(id, raw)
  if many.cancel(id, raw) then return true end
  local fields = parse(raw)
  local state = fields[FIELD.state]
  local waits = state == STATE.queued or state == STATE.retrying
  if not waits or is_being_revoked(id) then return false end
  if state == STATE.retrying then redis.call('ZREM', K.retry, id) end
  set_cancelled(fields)
  many.bury(id, fields, WORD[state])
  return true
end

for n, id in ipairs(ids) do
  local raw = not seen[id] and raws[n]
  seen[id] = true
  if raw and not newer(raw:match('^%d+')) and not is_live(holders[n]) and cancel(id, raw) then
    cancelled = cancelled + 1
  end
end
for _, list in ipairs(#ids == 0 and {K.urgent, K.queue} or {}) do
  ready_since(list, 0, 'LPOP', 5000)
  ready_since(list, -1, 'RPOP', 5000)
end
write_ends()
audited(action, cancelled)
return tonumber(memoize(call, int(cancelled)))
