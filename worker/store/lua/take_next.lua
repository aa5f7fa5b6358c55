#!lua
-- Take the org that stands first in line, to go on with it in a place of the pool that is free by now. It is
-- moved a little ahead, as by take_due.lua.
-- Uses     clock
-- KEYS[1]  the wake set    KEYS[2]  the messages that nobody has begun
-- KEYS[3]  the orgs with workers of their own, which are left to them
-- ARGV[1]  how far ahead, ms
-- Returns  {org, moved to}, or {} if nobody stands in line
-- Repeated: what was taken a moment ago isn't taken again; it comes up again by itself.
local ahead = int(NOW + ARGV[1])
for _, org in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(NOW), 'LIMIT', 0, 100)) do
  local is_asked = (tonumber((redis.call('HGET', KEYS[2], org) or ''):match('%d+$')) or 0) > NOW
  local has_own = (tonumber(redis.call('ZSCORE', KEYS[3], org) or nil) or 0) > NOW
  if not (is_asked or has_own) then
    redis.call('ZADD', KEYS[1], ahead, org)
    redis.call('HDEL', KEYS[2], org)
    return {org, ahead}
  end
end
return {}
