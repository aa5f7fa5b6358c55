#!lua flags=allow-oom
-- Take a call without jobs that went well for the probe of an org that has nothing to send. Without it the
-- gate of an idle org would say "probing" until the next job comes, however long the vendor has been well.
-- KEYS[1]  the org's slot
-- Returns  1 if the gate was closed or probing after trouble and is open now; 0 if it was open, is paused, the
--          vendor throttles, or jobs wait: their own call tells
-- Repeated: answers 0 and changes nothing.
local gate = redis.call('HMGET', K.gate, 'paused', 'closed_until', 'probing', 'offset', 'why')
local closed = (tonumber(gate[2]) or 0) > NOW + (tonumber(gate[4]) or 0) / 1000
local probing = (tonumber(gate[3]) or 0) > 0
local waiting = redis.call('LLEN', K.queue) + redis.call('LLEN', K.urgent) + redis.call('LLEN', K.isolate)
  + redis.call('ZCARD', K.retry) + redis.call('ZCARD', K.leases)
if gate[1] or waiting > 0 or not (closed or probing) or (closed and gate[5] == 'throttled') then return 0 end
redis.call('HDEL', K.gate, 'probing', 'failures', 'closed_until', 'since', 'reason')
return 1
