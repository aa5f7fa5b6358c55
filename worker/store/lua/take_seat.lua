#!lua
-- Take a place in the pool that all orgs share, so that none, slow or broken or large, takes it all.
-- Uses     clock pool
-- KEYS[1]  the seats  zset "org worker id" -> until when at the latest, ms
-- KEYS[2]  the pool   zset "worker places" -> until when it is believed alive, ms
-- ARGV[1]  org    ARGV[2]  worker    ARGV[3]  id, made by the caller    ARGV[4]  how long at most, ms
-- ARGV[5]  1 if the org is probing: orgs in trouble have half of the pool together
-- Returns  how many the org may have at once if the seat is taken, else 0
-- Repeated: the same id has the same seat.
local org, hold_ms, probing = ARGV[1], tonumber(ARGV[4]), ARGV[5] == '1'
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', int(NOW))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', int(NOW))
local seat = org .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. (probing and ' probing' or '')
local places, taken = in_pool(KEYS[2], KEYS[1])

local total, ours, in_trouble = #taken, 0, 0
for _, one in ipairs(taken) do
  if one[1] == org then ours = ours + 1 end
  if one[2] then in_trouble = in_trouble + 1 end
end
local half = math.max(1, math.floor(places / 2))
-- Half while others have some; and the last one always stays for an org that has none.
local share = math.max(1, total > ours and half or places - 1)

if not redis.call('ZSCORE', KEYS[1], seat) then
  if ours >= share or (probing and in_trouble >= half) then return 0 end
  if ours > 0 and total >= places - 1 then return 0 end
  redis.call('ZADD', KEYS[1], int(NOW + hold_ms), seat)
  total, ours = total + 1, ours + 1
end
-- Where others wait for a place it has what it has: another delivery would be asked for in vain.
return total >= places - 1 and math.min(ours, share) or share
