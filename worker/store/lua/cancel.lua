#!lua flags=allow-oom
-- Cancel jobs that wait: each becomes a dead letter, cancelled. What is being sent is left to be settled; if
-- the run itself is cancelled, what would wait again is cancelled then.
-- Up to 1,000 ids of dead jobs are taken off each end of each lane: what is left there counts what waits.
-- On a full server as well.
-- Uses     clock calls record sending runs outbox dead lanes gate
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  the entry of the audit trail that counts them, or ''
-- ARGV[3]  the run that is cancelled as a whole, or ''
-- ARGV[4]… ids, at most 1,000
-- Returns  how many were cancelled
-- Repeated: the same call id gets the same answer.
local call, action, run = ARGV[1], ARGV[2], ARGV[3]
local before = recall(call)
if before then return tonumber(before) end
if run ~= '' and redis.call('EXISTS', K.run .. run) == 1 then redis.call('HSET', K.run .. run, 'cancelled', '1') end
local ids, cancelled = {unpack(ARGV, 4)}, 0
local holders, raws = carriers(ids), records_of(ids)
for n, id in ipairs(ids) do
  local raw = raws[n]
  if raw and not newer(raw:match('^%d+')) and not is_live(holders[n]) then
    local fields = parse(raw)
    local state = fields[FIELD.state]
    if (state == STATE.queued or state == STATE.retrying) and not is_being_revoked(id, fields) then
      -- Its id may stay in the middle of a lane: whatever pops it looks at the record.
      if state == STATE.retrying then redis.call('ZREM', K.retry, id) end
      set_cancelled(fields)
      bury(id, fields, WORD[state])
      cancelled = cancelled + 1
    end
  end
end
for _, list in ipairs({K.urgent, K.queue}) do
  ready_since(list, 0, 'LPOP')
  ready_since(list, -1, 'RPOP')
end
write_ends()
audited(action, cancelled)
return tonumber(memoize(call, int(cancelled)))
