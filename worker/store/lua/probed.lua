#!lua flags=allow-oom
-- A call that carries no jobs succeeded: where the org is idle and probes, that was the probe. Where jobs wait, one of
-- them is; what a person paused or Retry-After closed stays so.
-- KEYS[1]  the org's slot
-- Returns  1 if it probed and no longer does, else 0
-- Repeated: answers 0 and changes nothing.
local gate = read_gate({})
if (gate.probing or 0) == 0 then return 0 end
redis.call('ZREMRANGEBYSCORE', K.inflight, '-inf', int(T))
local waiting = redis.call('LLEN', K.queue) + redis.call('LLEN', K.urgent) + redis.call('LLEN', K.isolate)
if waiting + redis.call('ZCARD', K.retry) + redis.call('ZCARD', K.inflight) > 0 then return 0 end
redis.call('HDEL', K.gate, 'probing', 'failures')
if (gate.closed_until or 0) <= T or gate.why ~= 'throttled' then
  redis.call('HDEL', K.gate, 'closed_until', 'why')
  if not gate.paused then redis.call('HDEL', K.gate, 'since') end
end
return 1
