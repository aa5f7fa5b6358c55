#!lua
-- Move the slot of a batch that is sent later than it was to be: what counts is when it is really sent.
-- KEYS[1]  the org's slot
-- ARGV[1]  batch id
-- ARGV[2]  JSON: cfg of the gate
-- Returns  1: send now; 0: too late, since a send that relied on this one's time has its slot already
-- Repeated: the later time counts.
local cfg, gate = cjson.decode(ARGV[2]), read_gate()
local n = tonumber(redis.call('LINDEX', K.batch .. ARGV[1], 1) or nil)
if not n or n >= (gate.n or 0) or gate.size ~= ring_size(cfg) then return 0 end
for _, limit in ipairs(cfg.limits) do
  if (gate.n or 0) > n + limit[1] then return 0 end
end
redis.call('SETRANGE', K.ring, (n % gate.size) * 16, string.format('%016.0f', NOW_US))
if (gate.last or 0) < NOW_US then set_gate(gate, 'last', int(NOW_US)) end
return 1
