#!lua
-- Cancel jobs that wait: each becomes a dead letter, cancelled. What is being sent is left to be settled.
-- Up to 1,000 ids of dead jobs are taken off each end of each lane: what is left there counts what waits.
-- KEYS[1]  the org's slot
-- ARGV[1]  call id
-- ARGV[2]  JSON: {ids}, at most 1,000
-- ARGV[3]  the entry of the audit trail that counts them, or ''
-- Returns  how many were cancelled
-- Repeated: the same call id gets the same answer.
local call, ids, action = ARGV[1], cjson.decode(ARGV[2]), ARGV[3]
local before = said(call)
if before then return tonumber(before) end
local cancelled = 0
for _, id in ipairs(ids) do
  local f = redis.call('HMGET', K.job .. id, F.state, F.run, F.version)
  if (f[1] == S.queued or f[1] == S.retrying) and not newer(f[3]) then
    -- Its id may stay in the middle of a lane: whoever pops it looks at the record.
    redis.call('ZREM', K.retry, id)
    bury(id, f[2], f[1], 'cancelled', F.code, 'cancelled', F.message, 'it was cancelled before it was sent')
    cancelled = cancelled + 1
  end
end
for _, list in ipairs({K.urgent, K.queue}) do
  ready_since(list, 0, 'LPOP')
  ready_since(list, -1, 'RPOP')
end
write_counts()
audited(action, cancelled)
return tonumber(say(call, int(cancelled)))
