#!lua
-- Move the slot of a batch that is sent later than it was to be: what counts is when it is really sent.
-- KEYS[1]  the org's slot
-- ARGV[1]  batch id
-- ARGV[2]  JSON: cfg of the gate
-- Returns  1: send now; 0: too late, since a send that relied on this one's time has its slot already
-- Repeated: the later time counts.
local cfg = cjson.decode(ARGV[2])
local gate = read_gate(cfg)
local n = tonumber(redis.call('LINDEX', K.batch .. ARGV[1], 1) or nil)
if not n or n < oldest(gate) or n >= gate.n then return 0 end
for _, limit in ipairs(cfg.limits) do
  local since = limit[4] and gate.items - items_before(gate, n) or gate.n - n
  if since > limit[1] then return 0 end
end
write_send(gate, n, T_US, items_before(gate, n))
if (gate.last or 0) < T_US then set_gate(gate, 'last', int(T_US)) end
return 1
