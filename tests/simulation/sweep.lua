#!lua
-- Delete what has expired by virtual time. ARGV[1]: now, ms.
local gone = redis.call('ZRANGEBYSCORE', '{simulation}ends', '-inf', ARGV[1], 'LIMIT', 0, 1000)
for _, key in ipairs(gone) do
  redis.call('DEL', key)
  redis.call('ZREM', '{simulation}ends', key)
end
return #gone
