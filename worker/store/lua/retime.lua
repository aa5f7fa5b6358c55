#!lua flags=allow-oom
-- Move the slot of a call that is made later than it was to be: what counts is when it is really made.
-- Uses     clock calls record gate
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  batch id, or that of a call without jobs (reserve_call.lua)
-- ARGV[2]  JSON: cfg of the gate; in_us: how soon it is made
-- Returns  1: send now; 0: too late, since a send that relied on this one's time has its slot already, or
--          1,000 were made after it
-- Repeated: the later time counts.
local cfg, MOST_AFTER = cjson.decode(ARGV[2]), 1000
local key = redis.call('EXISTS', K.batch .. ARGV[1]) == 1 and K.batch .. ARGV[1] or K.call .. ARGV[1]
local slot, number, jobs = (redis.call('GET', key) or ''):match('^(%d+) (%d+)(.*)')
if not slot then return 0 end
local gate, n = read_gate(cfg), tonumber(number)
slot = tonumber(slot)
n = math.min(n, gate.n - 1)
local first = math.max(oldest(gate), gate.n - MOST_AFTER)
while n >= first and sent_at(gate, n) ~= slot do n = n - 1 end -- others were moved behind it
if n < first then return 0 end
for _, limit in ipairs(cfg.limits) do
  local since = limit[4] and gate.items - items_before(gate, n) or gate.n - n
  if since > limit[1] then return 0 end
end

-- The ring stays in order of time: those that were sent in between take the places before it.
local at, items = math.max(T_US + (cfg.in_us or 0), slot), items_before(gate, n + 1) - items_before(gate, n)
while n + 1 < gate.n and sent_at(gate, n + 1) < at do
  write_send(gate, n, sent_at(gate, n + 1), items_before(gate, n + 1) - items)
  n = n + 1
end
write_send(gate, n, at, items_before(gate, n + 1) - items)
redis.call('SET', key, int(at) .. ' ' .. n .. jobs, 'KEEPTTL')
set_gate(gate, 'last', int(math.max(gate.last or 0, at)))
-- Where calls keep their distance, those that have their slots already will be late as well; the next one won't.
if goes_by_distance(cfg, gate) then
  set_gate(gate, 'due', int(math.max(gate.due or 0, at + (gate.n - 1 - n) * gap_us(cfg, gate))))
end
return 1
