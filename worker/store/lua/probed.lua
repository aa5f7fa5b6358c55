#!lua flags=allow-oom
-- A call that carries no jobs went well: where the org is idle and closed or probing after trouble, that was the
-- probe. Without it its gate would say "probing" until the next job comes, however long the vendor has been well.
-- Where jobs wait, one of them is the probe; what a person paused or Retry-After closed stays so.
-- Uses     clock record gate
-- KEYS[1]  what all keys of the org begin with
-- Returns  1 if it was closed or probing after trouble and is no longer, else 0
-- Repeated: answers 0 and changes nothing.
local gate = read_gate({})
local closed, throttled = (gate.closed_until or 0) > T, gate.why == 'throttled'
if not ((gate.probing or 0) > 0 or (closed and not throttled)) then return 0 end
local waiting = redis.call('LLEN', K.queue) + redis.call('LLEN', K.urgent) + redis.call('LLEN', K.isolate)
if waiting + redis.call('ZCARD', K.retry) + redis.call('ZCARD', K.leases) > 0 then return 0 end
redis.call('HDEL', K.gate, 'probing', 'failures')
if not (closed and throttled) then
  redis.call('HDEL', K.gate, 'closed_until', 'why', 'since', 'reason')
end
return 1
