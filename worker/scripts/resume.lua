#!lua
-- Resume an org: forget why it was paused, what closed it, and the token that may have been refused.
-- The times of the last sends stay: the limit holds across a pause.
-- KEYS[1]  the org's slot
-- Returns  JSON: what it was: "paused", "closed", "probing", or "": open
-- Repeated: answers "" and changes nothing.
local gate = redis.call('HMGET', K.gate, 'paused', 'closed_until', 'probing', 'offset')
local closed = (tonumber(gate[2]) or 0) > NOW + (tonumber(gate[4]) or 0) / 1000
local probing = (tonumber(gate[3]) or 0) > 0
redis.call('HDEL', K.gate, 'paused', 'reason', 'since', 'closed_until', 'why', 'probing', 'failures', 'throttled',
  'refusals')
redis.call('DEL', K.token)
return cjson.encode(gate[1] and 'paused' or closed and 'closed' or probing and 'probing' or '')
