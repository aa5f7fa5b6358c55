#!lua flags=allow-oom
-- Write into the audit trail what somebody is about to do; the scripts that do it count in the entry. On a
-- full server as well, or nobody could pause it.
-- Uses     clock
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  id of the entry
-- ARGV[2]  JSON: {field, value, ...}
-- ARGV[3]  how many entries are kept, the newest
-- Returns  nothing
-- Repeated: the entry is there already, and stays as it is.
local id, fields, kept = ARGV[1], cjson.decode(ARGV[2]), tonumber(ARGV[3])
if redis.call('ZADD', K.audits, 'NX', int(NOW), id) == 0 then return end
redis.call('HSET', K.audit .. id, 'at', int(NOW), unpack(fields))
local beyond = math.min(redis.call('ZCARD', K.audits) - kept, 100)
if beyond > 0 then
  for _, old in ipairs(redis.call('ZRANGE', K.audits, 0, beyond - 1)) do
    redis.call('DEL', K.audit .. old)
    redis.call('ZREM', K.audits, old)
  end
end
