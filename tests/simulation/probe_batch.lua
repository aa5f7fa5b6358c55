#!lua
-- Which jobs of a batch are its own, as JSON {id: state}, or {} if there is no such batch any more.
-- ARGV[1]: the org's key prefix. ARGV[2]: the batch.
local out = {}
for _, id in ipairs(redis.call('LRANGE', ARGV[1] .. ':batch:' .. ARGV[2], 2, -1)) do
  local f = redis.call('HMGET', ARGV[1] .. ':j:' .. id, 's', 'B')
  out[id] = f[1] == 'i' and 'issued' or f[1] == 's' and f[2] == ARGV[2] and 'sending' or 'not its own'
end
return cjson.encode(out)
