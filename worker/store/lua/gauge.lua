#!lua flags=allow-oom
-- Say what the org waits for and how fast it may go now; for status and metrics. On a full server as well:
-- it only ever takes away.
-- Uses     clock record runs later gate
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  JSON: cfg of the gate
-- Returns  JSON: {at, why, ripe, width, spacing_us, configured_us, sent, held, queued[, per_minute]}
--          at: ms, -1 never; ripe: whether a batch would be ready if the gate let it; width: jobs a batch
--          may carry now; spacing_us: between two sends now, learned or configured; sent: {in the
--          last window of each limit}; per_minute: sends in the last minute; both counted, not estimated;
--          held: jobs of runs that aren't to be sent yet; queued: all others that wait, but isolated ones
-- Repeated: changes nothing but ids in the queue whose jobs were dealt with otherwise.
local cfg = cjson.decode(ARGV[1])
local gate = read_gate(cfg)

local sent, held = {}, later.count()
for n, limit in ipairs(cfg.limits) do sent[n] = sent_between(gate, T_US - limit[2], T_US, limit[4]) end
local at, why = when(cfg, gate)
return cjson.encode({
  at = next_look(at),
  why = why,
  ripe = ripe_at(cfg, gate) <= T,
  width = width(cfg, gate),
  spacing_us = spacing_us(cfg, gate),
  configured_us = configured_us(cfg),
  sent = sent,
  held = held,
  queued = math.max(0, queued_jobs() - held - redis.call('LLEN', K.isolate)),
  per_minute = sent_between(gate, T_US - MINUTE_US, T_US),
})
