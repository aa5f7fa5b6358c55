#!lua flags=allow-oom
-- Move the slot of a batch that is sent later than it was to be: what counts is when it is really sent.
-- Uses     clock record gate
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  batch id
-- ARGV[2]  JSON: cfg of the gate
-- Returns  1: send now; 0: too late, since a send that relied on this one's time has its slot already, or
--          1,000 were made after it
-- Repeated: the later time counts.
local cfg, MOST_AFTER = cjson.decode(ARGV[2]), 1000
local gate, slot, n = read_gate(cfg), slot_of(ARGV[1])
if not slot then return 0 end
n = math.min(n, gate.n - 1)
local first = math.max(oldest(gate), gate.n - MOST_AFTER)
while n >= first and sent_at(gate, n) ~= slot do n = n - 1 end -- others were moved behind it
if n < first then return 0 end
for _, limit in ipairs(cfg.limits) do
  local since = limit[4] and gate.items - items_before(gate, n) or gate.n - n
  if since > limit[1] then return 0 end
end

-- The ring stays in order of time: those that were sent in between take the places before it.
local at, items = math.max(T_US, slot), items_before(gate, n + 1) - items_before(gate, n)
while n + 1 < gate.n and sent_at(gate, n + 1) < at do
  write_send(gate, n, sent_at(gate, n + 1), items_before(gate, n + 1) - items)
  n = n + 1
end
write_send(gate, n, at, items_before(gate, n + 1) - items)
local jobs = redis.call('GET', K.batch .. ARGV[1]):match('^%d+ %d+(.*)')
redis.call('SET', K.batch .. ARGV[1], int(at) .. ' ' .. n .. jobs)
set_gate(gate, 'last', int(math.max(gate.last or 0, at)))
return 1
