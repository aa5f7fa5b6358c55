-- Shared by every script: when the org's next batch may start, and why not earlier. One brain, one clock.
-- cfg: limits {{count, window_us, guard_us, of items}, ...} requests first, then shortest window first;
--      batch_size, linger_ms, max_in_flight, horizon_us (how far ahead of its time a slot is given out),
--      how (what a request is sent by, where the same one is sent again; else there is none),
--      clock {what it must show by now, by how much it may show more}, us, where the caller knows.

-- The org's own clock, which never steps: Redis's and an offset. Where Redis's steps back, it stands still.
-- Where Redis's steps forward, or a caller was held up on the way, it goes on from what the caller knows
-- to have gone by. Every time in the gate, ring, inflight, leases and retry is by this clock.
-- Callers are told it, and say it, as if it had never stood still: who heard it before it did would take it to
-- show more by now than it can, and a step forward by less than that would be believed.
local T_US, T, offset_us
local behind_us, stood_us -- for how long it has stood still before this call, and in it

-- In the table as read_gate would read it back: a number stays comparable with numbers.
local function set_gate(gate, ...)
  local pairs_ = {...}
  for n = 1, #pairs_, 2 do gate[pairs_[n]] = tonumber(pairs_[n + 1]) or pairs_[n + 1] end
  redis.call('HSET', K.gate, ...)
end

local function keep_clock(gate)
  behind_us, stood_us = behind_us + stood_us, 0
  set_gate(gate, 'clock', int(T_US), 'offset', int(offset_us), 'behind', int(behind_us))
end

local function clock_told() return int(T_US + behind_us) end

local NOTICED_US = 250000 -- a step of Redis's clock, as callers take it for one as well (SLACK_US of clock.py)

-- What a caller's word took back is kept at once: else the clock would go on ahead of the times that are given,
-- and told, by this call.
local function read_gate(cfg)
  local gate, flat = {}, redis.call('HGETALL', K.gate)
  for n = 1, #flat, 2 do gate[flat[n]] = tonumber(flat[n + 1]) or flat[n + 1] end
  local known, shows = gate.clock or 0, NOW_US + (gate.offset or 0)
  behind_us, stood_us = gate.behind or 0, 0
  T_US = math.max(shows, known)
  if cfg.clock then
    local least = cfg.clock[1] - behind_us
    if T_US > least + cfg.clock[2] then T_US = math.max(known, least) end
    local was_set_back = shows < known or least - T_US > NOTICED_US
    stood_us = math.max(0, was_set_back and least - T_US or shows - T_US)
  end
  T, offset_us = math.floor(T_US / 1000), T_US - NOW_US
  gate.n, gate.items, gate.size = gate.n or 0, gate.items or 0, gate.size or 0
  if T_US < shows or stood_us > NOTICED_US then keep_clock(gate) end
  return gate
end

-- An instant of the org's clock, ms, as others know it.
local function wall(at) return at - math.floor(offset_us / 1000) end

-- The ring: of the last sends, in order of time, when each was made and how many items had been sent before
-- it. It reaches back over the longest limit, and a minute: what status shows is counted.
local ENTRY, DIGITS = 32, 16
local MINUTE_US = 60000000
local MOST_REMEMBERED = 10000 -- for a limit of items; unknown sends are treated as recent

local function ring_size(cfg)
  local size, per_minute = 0, NEVER
  for _, limit in ipairs(cfg.limits) do
    size = math.max(size, limit[4] and math.min(limit[1], MOST_REMEMBERED) or limit[1])
    if not limit[4] then
      per_minute = math.min(per_minute, limit[1] * math.max(1, math.ceil(MINUTE_US / limit[2])))
    end
  end
  return math.max(size, per_minute)
end

local function place(gate, n) return (n % gate.size) * ENTRY end

local function sent_at(gate, n)
  return tonumber(redis.call('GETRANGE', K.ring, place(gate, n), place(gate, n) + DIGITS - 1))
end

local function items_before(gate, n)
  if n == gate.n then return gate.items end
  return tonumber(redis.call('GETRANGE', K.ring, place(gate, n) + DIGITS, place(gate, n) + ENTRY - 1))
end

local function write_send(gate, n, at_us, items)
  redis.call('SETRANGE', K.ring, place(gate, n), string.format('%016.0f%016.0f', at_us, items))
end

-- The first send that the ring remembers.
local function oldest(gate) return math.max(gate.first or 0, gate.n - gate.size) end

-- A limit that counts more needs a larger ring, which begins with what the smaller one remembered.
local function fit_ring(cfg, gate)
  local size, first = ring_size(cfg), oldest(gate)
  if gate.size >= size then return end
  if gate.n > first then
    local ring, from = redis.call('GET', K.ring), place(gate, first)
    local in_order = (ring:sub(from + 1) .. ring:sub(1, from)):sub(1, (gate.n - first) * ENTRY)
    local till_end = (size - first % size) * ENTRY
    redis.call('SET', K.ring, '')
    redis.call('SETRANGE', K.ring, (first % size) * ENTRY, in_order:sub(1, till_end))
    if #in_order > till_end then redis.call('SETRANGE', K.ring, 0, in_order:sub(till_end + 1)) end
  end
  set_gate(gate, 'size', size, 'first', first)
end

-- The first send from a number on that something holds for: of all that follow it does as well.
local function first_send(gate, holds)
  local first, past = oldest(gate), gate.n
  while first < past do
    local middle = math.floor((first + past) / 2)
    if holds(middle) then past = middle else first = middle + 1 end
  end
  return first
end

-- How many sends, or items, left after one instant and until another, us.
local function sent_between(gate, after, up_to, of_items)
  local first = first_send(gate, function(n) return sent_at(gate, n) > after end)
  local past = first_send(gate, function(n) return sent_at(gate, n) > up_to end)
  return of_items and items_before(gate, past) - items_before(gate, first) or past - first
end

-- When a send of this number of items is within a limit, us: once the send that is one too many has left the window.
local function within_limit_at(gate, limit, items)
  local past -- the first send that may still be in the window
  if limit[4] then
    past = first_send(gate, function(n) return gate.items - items_before(gate, n) + items <= limit[1] end)
  else
    past = gate.n - limit[1] + 1
  end
  if past <= 0 then return T_US end
  return sent_at(gate, math.max(past - 1, oldest(gate))) + limit[2] + limit[3]
end

local function configured_us(cfg)
  local shortest = cfg.limits[1]
  return (shortest[2] + shortest[3]) / shortest[1]
end

-- The spacing of the shortest limit of requests, or a wider one that a vendor who throttles has taught us. From
-- when the gate opens again the rate rises in a straight line to what was learned; beyond it, where it was refused,
-- slowly at first and then faster. A function of time: to know where it stands costs no calls and no writes.
local function spacing_us(cfg, gate, at_us)
  local PROBE = 0.05
  if not gate.learned then return configured_us(cfg) end
  local spans = math.max(0, (at_us or T_US) - gate.learned_from) / (gate.span or 100 * gate.learned)
  local times = spans < 1 and 1 - gate.swing * (1 - spans) or 1 + PROBE * (spans - 1) ^ 2
  return math.max(configured_us(cfg), gate.learned / times)
end

local function slowed(cfg, gate, at_us) return spacing_us(cfg, gate, at_us) > configured_us(cfg) * 1.001 end

-- Whether the vendor may refuse a call for being too close behind the one before it: it throttles, and hasn't shown
-- that it counts in windows.
local function goes_by_distance(cfg, gate) return slowed(cfg, gate) and gate.by_window ~= 1 end

-- How long the gate is closed, the how-many-th time in a row: 1, 2, 4 ... seconds, a minute at most; ms.
local function growing_ms(times) return math.min(60000, 1000 * 2 ^ math.min(times - 1, 6)) end

-- How long after the last send was due the next one is, us: a send of many items waits longer for its limit.
local function gap_us(cfg, gate)
  local gap = spacing_us(cfg, gate)
  for _, limit in ipairs(cfg.limits) do
    if limit[4] then return math.max(gap, (gate.carried or 0) * (limit[2] + limit[3]) / limit[1]) end
  end
  return gap
end

-- The earliest time of the next send, us: after the last one, spaced, and within every limit in any window.
local function slot_us(cfg, gate, items)
  local at = math.max(T_US, gate.last or 0)
  if gate.due then at = math.max(at, gate.due + gap_us(cfg, gate)) end
  for _, limit in ipairs(cfg.limits) do at = math.max(at, within_limit_at(gate, limit, items)) end
  return math.ceil(at)
end

-- Spacing counts from when a send was due, so that one that comes a little late delays no other; later
-- than that there was nothing to send, and spacing starts again. No window ever holds more for it. A vendor that
-- throttles may count in shorter windows than we know of: there, nothing is made up for.
local function reserve(cfg, gate, at_us, items)
  local LEAST_LATE_US, MOST_LATE_US = 200000, 1000000
  local gap = gap_us(cfg, gate)
  local due = (gate.due or 0) + gap
  local most_late = math.min(math.max(LEAST_LATE_US, gap), MOST_LATE_US)
  if slowed(cfg, gate) or at_us - due > most_late then due = at_us end
  write_send(gate, gate.n, at_us, gate.items)
  set_gate(gate, 'n', int(gate.n + 1), 'items', int(gate.items + items), 'carried', items,
    'last', int(at_us), 'due', int(due))
end

-- The slot that was given out last took the ring's place of the one that is now needed again. What that can have
-- been at the latest: the next one's time, or what left the last slot within the limit that the ring is for.
local function remember_one_more(cfg, gate, last_slot)
  local first = oldest(gate)
  local latest = sent_at(gate, first + 1)
  for _, limit in ipairs(cfg.limits) do
    if limit[4] then
      set_gate(gate, 'first', int(first + 1)) -- nobody knows how many items it had
      return
    end
    if limit[1] == gate.size then latest = math.min(latest, last_slot - limit[2] - limit[3]) end
  end
  write_send(gate, first, latest, items_before(gate, first + 1))
end

-- When a batch was to be sent, us, and its number among the sends; nil if there is no such batch any more.
local function slot_of(batch)
  local slot, n = redis.call('GETRANGE', K.batch .. batch, 0, 40):match('^(%d+) (%d+)')
  return tonumber(slot), tonumber(n)
end

-- Take back the slot of a batch that was certainly not sent: it counts in no window, and another may have it.
local function take_back_slot(cfg, gate, batch)
  local MOST_AFTER = 1000
  local slot, n = slot_of(batch)
  if not slot then return end
  n = math.min(n, gate.n - 1)
  local first = math.max(oldest(gate), gate.n - MOST_AFTER)
  while n >= first and sent_at(gate, n) ~= slot do n = n - 1 end -- others were moved behind it
  if n < first then return end
  local items = items_before(gate, n + 1) - items_before(gate, n)
  local last_slot, was_last = sent_at(gate, gate.n - 1), n == gate.n - 1
  for after = n + 1, gate.n - 1 do
    write_send(gate, after - 1, sent_at(gate, after), items_before(gate, after) - items)
  end
  local was_full = gate.n - gate.size > (gate.first or 0) -- its slot took another's place
  set_gate(gate, 'n', int(gate.n - 1), 'items', int(gate.items - items))
  if was_full and gate.n > 0 then remember_one_more(cfg, gate, last_slot) end
  if was_last then
    set_gate(gate, 'last', n > oldest(gate) and int(sent_at(gate, n - 1)) or 0, 'due', int(gate.due - gap_us(cfg, gate)))
  end
end

local function width(cfg, gate)
  if (gate.probing or 0) > 0 then return 1 end
  local most = cfg.batch_size
  if gate.batch_size and T < gate.batch_size_until then most = math.min(most, gate.batch_size) end
  for _, limit in ipairs(cfg.limits) do
    if limit[4] then most = math.min(most, limit[1]) end
  end
  return most
end

-- Calls that are over are passed over, and forgotten by claim alone: a script that only looks may have met a clock
-- that leapt ahead, and nothing tells it.
local function room(cfg, gate)
  local calls = redis.call('ZCOUNT', K.inflight, '(' .. int(T), '+inf')
  return ((gate.probing or 0) > 0 and 1 or cfg.max_in_flight) - calls
end

local function first_call_over()
  local first = redis.call('ZRANGEBYSCORE', K.inflight, '(' .. int(T), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return tonumber(first[2]) or NEVER
end

local function first_score(zset)
  local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')
  return tonumber(first[2]) or NEVER
end

-- Since when a job has been ready; nil if it doesn't wait.
local function waits_since(raw)
  local version, state = head(raw)
  if newer(version) then return 0 end -- claim takes it out of the way
  if state ~= STATE.queued then return nil end
  local fields = parse(raw)
  return tonumber(fields[FIELD.ready_since]) or tonumber(fields[FIELD.enqueued_at])
end

-- Since when the job at an end of a lane has been ready: from 0, or its end, -1. Ids of jobs that were dealt with otherwise are
-- dropped on the way, a bounded number.
local function ready_since(list, from, pop, most)
  local looked_at, page = 0, 1
  while looked_at < (most or 1000) do
    local ids = redis.call('LRANGE', list, from == 0 and 0 or -page, from == 0 and page - 1 or -1)
    if #ids == 0 then return NEVER end
    local raws, since, stale = records_of(ids), nil, 0
    for n = 1, #ids do
      local raw = raws[from == 0 and n or #ids + 1 - n]
      if raw then since = waits_since(raw) end
      if since then break end
      stale = n
    end
    if stale > 0 then redis.call(pop, list, stale) end
    if since then return since end
    looked_at, page = looked_at + #ids, 500
  end
  return 0
end

-- When a request in doubt is to be sent again as it was, and how many jobs it carries.
local function again_at(cfg)
  local first = cfg.how and redis.call('ZRANGE', K.agains, 0, 0, 'WITHSCORES') or {}
  if not first[1] then return NEVER, 0 end
  return tonumber(first[2]), math.max(1, redis.call('LLEN', K.again .. first[1]) - 3)
end

local function in_lanes() return redis.call('LLEN', K.urgent) + redis.call('LLEN', K.queue) end

-- When the next batch of jobs that wait is ripe, and how many it would carry. A full batch is ripe at once, a
-- part of one when its first job has been ready for the linger time.
local function waiting_ripe_at(cfg, gate)
  local most = width(cfg, gate)
  if redis.call('LLEN', K.isolate) > 0 or in_lanes() >= most then return T, most end
  local since = math.min(ready_since(K.urgent, 0, 'LPOP'), ready_since(K.queue, 0, 'LPOP'))
  if since == NEVER then return NEVER, 0 end
  -- Ready in the future: from before Redis's clock stepped back, so it has waited long enough.
  if since > NOW then return T, most end
  return T + math.max(0, cfg.linger_ms - (NOW - since)), in_lanes()
end

-- When the next call is ripe, and how many jobs it would carry: what is sent again as it was goes first.
local function ripe_at(cfg, gate)
  local again, its = again_at(cfg)
  if again <= T then return again, its end
  local at, items = waiting_ripe_at(cfg, gate)
  if again < at then return again, its end
  return at, items
end

-- While deliveries wait, calls beside them have a share of the limit: so far apart, us. Returns how long the next
-- one is to wait, ms; 0: it may go.
local function yields_ms(cfg, gate, share)
  local at_us = (gate.aside or 0) + spacing_us(cfg, gate) / (share or NEVER)
  if not share or at_us <= T_US or ripe_at(cfg, gate) > T then return 0 end
  return math.max(1, math.ceil((at_us - T_US) / 1000))
end

-- When the next batch may start, ms, and what it waits for; T or earlier means: now.
local function when(cfg, gate)
  local at, items = ripe_at(cfg, gate)
  local why = 'linger'
  if at == NEVER then return NEVER, 'idle' end
  if gate.paused then return NEVER, 'paused' end
  local function wait(candidate, reason)
    if candidate > at and candidate > T then at, why = candidate, reason end
  end
  wait(gate.closed_until or 0, gate.why or 'closed')
  if room(cfg, gate) <= 0 then wait(first_call_over(), 'in flight') end
  wait((slot_us(cfg, gate, items) - cfg.horizon_us) / 1000, 'rate')
  return at == NEVER and at or math.ceil(at), why
end

-- Who takes badges back now, which, and until when at the longest (take_revoke.lua); nothing: nobody.
local function revoker()
  local by, id, up_to = (redis.call('GET', K.revoker) or ''):match('^(%S+) (%S+) (%d+)$')
  if by and tonumber(up_to) > T then return by, id, tonumber(up_to) end
end

-- Whether a call may be on its way that takes this one's badge back; no batch carries that.
local function is_being_revoked(id)
  local _, its = revoker()
  return its == id
end

-- When somebody must look after badges that are to be taken back: once the gate is open and nobody is at it; ms.
local function revokes_at()
  local first = first_score(K.revokes)
  if first == NEVER or redis.call('HEXISTS', K.gate, 'paused') == 1 then return NEVER end
  local _, _, up_to = revoker()
  return math.max(first, T, up_to or 0, tonumber(redis.call('HGET', K.gate, 'closed_until') or nil) or 0)
end

-- When somebody must look at the org again, ms, as others know it: for the next batch, a due retry, an
-- overdue lease, a check, a run that is to start, a badge to be taken back; -1: never.
local function next_look(at)
  at = math.min(at, first_score(K.retry), first_score(K.leases), revokes_at())
  return instant(math.min(wall(at), first_score(K.checks), first_score(K.starts)))
end
