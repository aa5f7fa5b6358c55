-- Which jobs of a batch are its own, as JSON {id: state}, or {} if there is no such batch any more.
-- KEYS[1]: the org's key prefix. ARGV[1]: the batch.
local out, list = {}, redis.call('LRANGE', K.batch .. ARGV[1], 2, -1)
for n = 1, #list, 2 do
  local id = list[n]
  local raw = redis.call('GET', K.job .. id)
  local state = raw and parse(raw)[FIELD.state]
  local is_its = state == STATE.queued and redis.call('HGET', K.sending, id) == ARGV[1]
  out[id] = state == STATE.issued and 'issued' or is_its and 'sending' or 'not its own'
end
return cjson.encode(out)
