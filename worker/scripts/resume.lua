#!lua
-- Resume an org: forget why it was paused, what closed it, and the token that may have been refused.
-- The times of the last sends stay: the limit holds across a pause.
-- KEYS[1]  the org's slot
-- Returns  1 if it was paused, else 0
-- Repeated: answers 0 and changes nothing.
local paused = redis.call('HDEL', K.gate, 'paused')
redis.call('HDEL', K.gate, 'reason', 'since', 'closed_until', 'why', 'probing', 'failures', 'throttled', 'refusals')
redis.call('DEL', K.token)
return paused
