#!lua
-- End a dead letter by a person's word. Its record stays, so that importing it again can't issue it.
-- KEYS[1]  the org's slot
-- ARGV[1]  job id
-- ARGV[2]  'issued' one in doubt was issued after all; 'discard' nothing more is to be done about it
-- ARGV[3]  how long its record is kept, ms
-- Returns  1 if it was such a dead letter, else 0
-- Repeated: answers 0 and changes nothing.
local id, verb = ARGV[1], ARGV[2]
local key = K.job .. id
local f = redis.call('HMGET', key, 's', 'k', 'r')
if f[1] ~= 'd' or not redis.call('ZSCORE', K.dead .. f[2], id) then return 0 end
if verb == 'issued' then
  if f[2] ~= 'in_doubt' then return 0 end
  exhume(id, f[3], f[2])
  redis.call('HSET', key, 's', 'i', 'f', int(NOW))
  moved(f[3], 'd', 'i')
  write_counts()
else
  redis.call('ZREM', K.dead .. f[2], id)
  redis.call('ZREM', K.checks, id)
end
redis.call('PEXPIRE', key, ARGV[3])
return 1
