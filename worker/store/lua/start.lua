#!lua flags=allow-oom
-- Let a run begin that isn't to be sent yet: claim takes up its jobs from now on. On a full server as well.
-- Uses     clock calls runs later
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  the run
-- ARGV[3]  the entry of the audit trail that counts its jobs, or ''
-- Returns  how many jobs it holds; -1: it has begun before, isn't there, or was cancelled and holds some yet
-- Repeated: the same call id gets the same answer.
local call, run, action = ARGV[1], ARGV[2], ARGV[3]
local before = recall(call)
if before then return tonumber(before) end
local held = later.size(run)
if not later.is(run) or held > 0 and is_cancelled(run) then return tonumber(memoize(call, -1)) end
redis.call('HSET', K.run .. run, 'starts_at', int(NOW))
if held > 0 then redis.call('ZADD', K.starts, int(NOW), run) end
audited(action, held)
return tonumber(memoize(call, int(held)))
