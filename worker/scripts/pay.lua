#!lua
-- Take one slot of the limit for a call that carries no jobs (a token, a read).
-- KEYS[1]  the org's slot
-- ARGV[1]  call id
-- ARGV[2]  JSON: cfg of the gate; though_paused: a person asks for it
-- Returns  JSON: {send_in_us} or, while the gate is closed, {at, why}
-- Repeated: the same call id gets the same slot.
local cfg, gate = cjson.decode(ARGV[2]), read_gate()
local slot = tonumber(said(ARGV[1]) or nil)
if not slot then
  check_ring(cfg, gate)
  if gate.paused and not cfg.though_paused then return cjson.encode({at = -1, why = 'paused'}) end
  if (gate.closed_until or 0) > NOW then
    return cjson.encode({at = gate.closed_until, why = gate.why or 'closed'})
  end
  slot = slot_us(cfg, gate)
  reserve(cfg, gate, slot)
  stat('requests', 1)
  say(ARGV[1], int(slot))
end
return cjson.encode({send_in_us = slot - NOW_US})
