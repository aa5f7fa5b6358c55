-- Which jobs of a batch are its own, as JSON {id: state}, or {} if there is no such batch any more.
-- KEYS[1]: the org's key prefix. ARGV[1]: the batch.
local out = {}
for _, id in ipairs(redis.call('LRANGE', K.batch .. ARGV[1], 2, -1)) do
  local f = redis.call('HMGET', K.job .. id, F.state, F.batch)
  out[id] = f[1] == S.issued and 'issued' or f[1] == S.sending and f[2] == ARGV[1] and 'sending' or 'not its own'
end
return cjson.encode(out)
