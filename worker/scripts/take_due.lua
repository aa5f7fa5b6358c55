#!lua
-- Take the orgs that are due: the caller sends a message for each. Each is moved a little ahead instead of
-- away, so that one whose message gets lost comes up again. Until then no other is sent for it, and once one
-- of them was begun the others are void: where workers are slow, messages would only pile up. For that, too,
-- none is sent for an org whose first still stands in the line, and the moves grow as long as nobody begins:
-- a message that was lost is soon replaced, one that waits seldom.
-- KEYS[1]  the wake set
-- KEYS[2]  the orgs that were asked for  hash org -> "first until": the time of the first message for it that
--          nobody has begun, and until when no other is sent, ms; or "begun" and by whom, see begin.lua;
--          and how far the line is:  "" -> "first at", of the message that was begun last, and when, ms
-- ARGV[1]  how far ahead at first, ms
-- ARGV[2]  an org to take alone, due or not; or "": all that are due
-- Returns  JSON: {due = {{org, moved to}, ...}, wait_ms}: how long until the next, -1 if there is none
-- Repeated: what was taken a moment ago isn't taken again; it comes up again by itself.
local due, step, only = {}, tonumber(ARGV[1]), ARGV[2]
local longest = 4 * step
local orgs = only ~= '' and {only} or redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(NOW), 'LIMIT', 0, 100)
local function asked(org)
  local first, at = (redis.call('HGET', KEYS[2], org) or ''):match('^(%d+) (%d+)$')
  return tonumber(first), tonumber(at)
end

-- Brokers keep the order: while messages are being begun, those behind them aren't lost.
local begun, begun_at = asked('')
local moves = begun and NOW >= begun_at and NOW < begun_at + step

for _, org in ipairs(orgs) do
  local first, till = asked(org)
  if moves and first and first >= begun then till = math.max(till, NOW + step) end
  first, till = first or NOW + step, till or NOW
  -- Further ahead than that it is from before Redis's clock stepped back.
  if till > NOW and till <= NOW + longest then
    redis.call('ZADD', KEYS[1], int(till), org)
  else
    local ahead = NOW + math.min(math.max(step, NOW + step - first), longest)
    redis.call('ZADD', KEYS[1], int(ahead), org)
    redis.call('HSET', KEYS[2], org, int(math.min(first, ahead)) .. ' ' .. int(ahead))
    due[#due + 1] = {org, ahead}
  end
end
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local wait_ms = head[2] and math.max(0, tonumber(head[2]) - NOW) or -1
return cjson.encode({due = #due > 0 and due or nil, wait_ms = wait_ms})
