-- Which jobs of a batch are its own, as JSON {id: state}, or {} if there is no such batch any more.
-- KEYS[1]: the org's key prefix. ARGV[1]: the batch.
local out = {}
for _, id in ipairs((carried_by(ARGV[1]))) do
  local raw = redis.call('GET', K.job .. id)
  local state = raw and parse(raw)[FIELD.state]
  local is_its = state == STATE.queued and redis.call('HGET', K.sending, id) == ARGV[1]
  out[id] = state == STATE.issued and 'issued' or is_its and 'sending' or 'not its own'
end
return cjson.encode(out)
