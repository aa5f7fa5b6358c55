#!lua
-- Take one slot of the limit for a call that carries no jobs (a token, a read).
-- Uses     clock calls record runs gate
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  JSON: cfg of the gate; though_closed: a person asks for it, and only a vendor that throttles is left alone;
--          aside: the share of the limit that such calls may have while deliveries wait; patience_us: a slot further
--          ahead isn't taken
-- Returns  JSON: {send_in_us, clock} or, where none was taken, {at, why, clock}
-- Repeated: the same call id gets the same slot, or that to which retime.lua moved it.
local cfg = cjson.decode(ARGV[2])
local gate = read_gate(cfg)
local slot = tonumber((recall(ARGV[1]) or ''):match('^%d+'))
if not slot then
  keep_clock(gate)
  fit_ring(cfg, gate)
  if gate.paused and not cfg.though_closed then return cjson.encode({at = -1, why = 'paused', clock = clock_told()}) end
  if (gate.closed_until or 0) > T and (gate.why == 'throttled' or not cfg.though_closed) then
    return cjson.encode({at = wall(gate.closed_until), why = gate.why or 'closed', clock = clock_told()})
  end
  local wait_ms = yields_ms(cfg, gate, cfg.aside)
  if wait_ms > 0 then return cjson.encode({at = wall(T + wait_ms), why = 'deliveries', clock = clock_told()}) end
  slot = slot_us(cfg, gate, 0)
  if slot - T_US > (cfg.patience_us or NEVER) then
    return cjson.encode({at = wall(math.floor((slot - cfg.patience_us) / 1000)), why = 'rate', clock = clock_told()})
  end
  if cfg.aside then set_gate(gate, 'aside', int(slot)) end
  reserve(cfg, gate, slot, 0)
  stat('requests', 1)
  memoize(ARGV[1], int(slot) .. ' ' .. int(gate.n - 1)) -- for retime.lua, as a batch has it
end
return cjson.encode({send_in_us = slot - T_US, clock = clock_told()})
