#!lua
-- Take the orgs that are due. Each is moved a little ahead instead of away, so that one whose taker
-- crashes comes up again.
-- KEYS[1]  the wake set
-- ARGV[1]  how far ahead, ms
-- Returns  JSON: {due = {{org, moved to}, ...}, wait_ms}: how long until the next, -1 if there is none
-- Repeated: what was taken a moment ago isn't due; it comes up again by itself.
local due, ahead = {}, NOW + tonumber(ARGV[1])
for n, org in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(NOW), 'LIMIT', 0, 100)) do
  redis.call('ZADD', KEYS[1], int(ahead), org)
  due[n] = {org, ahead}
end
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local wait_ms = head[2] and math.max(0, tonumber(head[2]) - NOW) or -1
return cjson.encode({due = #due > 0 and due or nil, wait_ms = wait_ms})
