#!lua flags=allow-oom
-- Note when an org should be looked at. A hint only: losing one costs seconds, never a job.
-- KEYS[1]  the wake set    KEYS[2]  the bell    KEYS[3]  the orgs with workers of their own
-- ARGV[1]  org
-- ARGV[2]  at, ms; -1: there is nothing to wait for
-- ARGV[3]  the time that take_due left there for the caller, or "": if nobody changed it since, the
--          caller may also move it later or take it away; else a hint only ever moves ahead
-- Returns  1
-- Repeated: changes nothing.
local org, at, seen = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local current = tonumber(redis.call('ZSCORE', KEYS[1], org) or nil)
local ours = seen and current == seen
if at < 0 then
  if ours then redis.call('ZREM', KEYS[1], org) end
elseif ours or not current or at < current then
  local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  redis.call('ZADD', KEYS[1], int(at), org)
  -- Who is due may stand in line for the pool; a worker of its own mustn't wait behind that.
  if not head[1] or at < tonumber(head[2]) or redis.call('ZSCORE', KEYS[3], org) then
    redis.call('LPUSH', KEYS[2], '1')
    redis.call('LTRIM', KEYS[2], 0, 0)
  end
end
return 1
