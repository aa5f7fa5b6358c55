#!lua flags=allow-oom
-- Resume an org: forget why it was paused, until when it is closed, and the token that may have been refused.
-- The breaker stays: after trouble one job is tried, now, and a success opens the org in full. The times of
-- the last sends stay as well: the limit holds across a pause.
-- Uses     clock
-- KEYS[1]  what all keys of the org begin with
-- Returns  JSON: what it was: "paused", "closed", "probing", or "": open
-- Repeated: changes nothing, and answers "probing" after "closed", else what is left: that, or "".
local gate = redis.call('HMGET', K.gate, 'paused', 'closed_until', 'probing', 'offset')
local closed = (tonumber(gate[2]) or 0) > NOW + (tonumber(gate[4]) or 0) / 1000
local probing = (tonumber(gate[3]) or 0) > 0
if closed then redis.call('HSETNX', K.gate, 'probing', 1) end
redis.call('HDEL', K.gate, 'closed_until')
if gate[1] then
  redis.call('HDEL', K.gate, 'paused', 'pause_reason', 'paused_since', 'refusals')
  redis.call('DEL', K.token)
end
return cjson.encode(gate[1] and 'paused' or closed and 'closed' or probing and 'probing' or '')
