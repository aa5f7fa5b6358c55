#!lua
-- Take the orgs that are due: the caller sends a message for each. Each is moved a little ahead instead of
-- away, so that one whose message gets lost comes up again. Until then no other is sent for it, and the moves
-- grow as long as nobody begins: a message that was lost is soon replaced, one that waits seldom.
-- Nor are more messages sent than there are places in the pool: who finds none stays due, and stands in line
-- for a delivery that goes on with it (take_next.lua), since a message costs more than a batch.
-- Uses     clock pool
-- KEYS[1]  the wake set
-- KEYS[2]  the messages that nobody has begun  hash org -> "first until": the time of the first one for it, and
--          until when no other is sent, ms
-- KEYS[3]  the orgs with workers of their own: the pool doesn't serve these
-- KEYS[4]  the pool    KEYS[5]  the seats, see take_seat.lua
-- ARGV[1]  how far ahead at first, ms
-- ARGV[2]  how soon to look again while somebody stands in line, ms
-- Returns  JSON: {wait_ms[, due]}
--          wait_ms: how long until the next look, -1 if there is none
--          due: {org, moved to, whether it has workers of its own} each
-- Repeated: what was taken a moment ago isn't taken again; it comes up again by itself.
local step, line_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local longest = 4 * step
local due, own, free = {}, {}, 0

local function asked(times)
  local first, ends = (times or ''):match('^(%d+) (%d+)$')
  first, ends = tonumber(first), tonumber(ends)
  -- Further ahead than that it is from before Redis's clock stepped back.
  return first, ends and ends > NOW and ends <= NOW + longest and ends
end

local function take(org, anybody)
  local first, ends = asked(redis.call('HGET', KEYS[2], org))
  if ends or not anybody then
    redis.call('ZADD', KEYS[1], int(ends or NOW + step), org)
    return
  end
  first = first or NOW + step
  local ahead = NOW + math.min(math.max(step, NOW + step - first), longest)
  redis.call('ZADD', KEYS[1], int(ahead), org)
  redis.call('HSET', KEYS[2], org, int(math.min(first, ahead)) .. ' ' .. int(ahead))
  due[#due + 1] = {org, ahead, own[org] or false}
  free = free - 1
end

for _, org in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], int(NOW), '+inf')) do
  own[org] = true
  if (tonumber(redis.call('ZSCORE', KEYS[1], org) or nil) or NEVER) <= NOW then take(org, true) end
end

local places, taken = in_pool(KEYS[4], KEYS[5])
free = places - #taken
local messages = redis.call('HGETALL', KEYS[2])
for n = 1, #messages, 2 do
  local _, ends = asked(messages[n + 1])
  if ends and not own[messages[n]] then free = free - 1 end
end

for _, org in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(NOW), 'LIMIT', 0, 100)) do
  if free <= 0 and places > 0 then break end
  take(org, places > 0)
end

local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local wait_ms = -1
if head[2] then wait_ms = tonumber(head[2]) > NOW and tonumber(head[2]) - NOW or line_ms end
return cjson.encode({due = #due > 0 and due or nil, wait_ms = wait_ms})
