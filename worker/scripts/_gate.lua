-- Shared by every script: when the org's next batch may start, and why not earlier. One brain, one clock.
-- cfg: limits {{count, window_us, guard_us}, ...} shortest window first, batch_size, linger_ms,
--      max_in_flight, horizon_us (how far ahead of its time a slot is given out).

local function read_gate()
  local gate, flat = {}, redis.call('HGETALL', K.gate)
  for n = 1, #flat, 2 do gate[flat[n]] = tonumber(flat[n + 1]) or flat[n + 1] end
  return gate
end

-- In the table as read_gate would read it back: a number stays comparable with numbers.
local function set_gate(gate, ...)
  local pairs_ = {...}
  for n = 1, #pairs_, 2 do gate[pairs_[n]] = tonumber(pairs_[n + 1]) or pairs_[n + 1] end
  redis.call('HSET', K.gate, ...)
end

local function longest_window_us(cfg) return cfg.limits[#cfg.limits][2] end

local function ring_size(cfg)
  local size = 0
  for _, limit in ipairs(cfg.limits) do size = math.max(size, limit[1]) end
  return size
end

local function sent_at(n, size)
  local place = (n % size) * 16
  return tonumber(redis.call('GETRANGE', K.ring, place, place + 15))
end

-- How many sends of the ring are younger than that. It is in order of time, near enough: halving, since
-- reading all of a large one would hold the server up.
local function sent_within(gate, us)
  local first, past = math.max(0, gate.n - gate.size), gate.n
  while first < past do
    local middle = math.floor((first + past) / 2)
    if sent_at(middle, gate.size) > NOW_US - us then past = middle else first = middle + 1 end
  end
  return gate.n - first
end

-- Start afresh behind a closed gate: after one longest window no earlier send counts any more. Taken
-- when the clock steps back, and when the limits change and the ring no longer fits. What the last look
-- at the clock left ahead of it (a slot given out ahead of its time, a closing that lasts longer than a
-- window) is still ahead now, by as much, whatever the clock says since.
local function forget_sends(cfg, gate, why)
  local then_ms, longest = math.max(NOW, gate.clock or 0), cfg.limits[#cfg.limits]
  local last_in_us = math.max(0, (gate.last or 0) - then_ms * 1000)
  local window_ms = math.ceil((last_in_us + longest[2] + longest[3]) / 1000)
  local closed_ms = (gate.closed_until or 0) - then_ms
  if closed_ms > window_ms then why = gate.why or why end
  local reopens = NOW + math.max(window_ms, closed_ms)
  redis.call('DEL', K.ring)
  redis.call('HDEL', K.gate, 'last', 'due')
  gate.last, gate.due = nil, nil
  set_gate(gate, 'n', 0, 'size', ring_size(cfg), 'closed_until', int(reopens), 'why', why)
end

local function check_ring(cfg, gate)
  if gate.size and gate.size ~= ring_size(cfg) then
    forget_sends(cfg, gate, 'limits changed')
  elseif gate.clock and NOW < gate.clock - 1000 then
    forget_sends(cfg, gate, 'clock stepped back')
  end
  set_gate(gate, 'size', ring_size(cfg), 'clock', int(NOW))
end

-- The spacing of the shortest limit, or a wider one that a vendor who throttles has taught us. That one
-- narrows again as time goes by without a 429: by 2 % in the time of 100 calls, after three such times by
-- half each. It costs no calls and no writes to know where it stands.
local RECOVERY_CALLS, SLOW_RECOVERIES = 100, 3
local function spacing_us(cfg, gate)
  local shortest = cfg.limits[1]
  local configured = (shortest[2] + shortest[3]) / shortest[1]
  if not gate.learned then return configured end
  local recoveries = (NOW_US - gate.learned_at) / (gate.learned * RECOVERY_CALLS)
  local slow = math.min(recoveries, SLOW_RECOVERIES)
  local faster = (1 + 0.02 * slow) * 1.5 ^ math.min(60, math.max(0, recoveries - slow))
  return math.max(configured, gate.learned / faster)
end

-- A call was answered 429: send slower from now on. What was let through in the last window tells how much
-- slower; a call that was sent before the last lesson teaches nothing new.
local function learn_spacing(cfg, gate, sent_us)
  if gate.learned_at and sent_us <= gate.learned_at then return end
  local window = longest_window_us(cfg)
  local let_through = sent_within(gate, window)
  local now = spacing_us(cfg, gate)
  local taught = window / math.max(1, let_through - 1) * 1.02
  set_gate(gate, 'learned', math.min(math.max(now * 1.05, taught), now * 2), 'learned_at', int(NOW_US))
end

-- The earliest time of the next send, us: spaced, and never more than count in any window of each limit,
-- since send n waits for send n - count to leave the window.
local function slot_us(cfg, gate)
  local at, sends = NOW_US, gate.n or 0
  if gate.due then at = math.max(at, gate.due + spacing_us(cfg, gate)) end
  for _, limit in ipairs(cfg.limits) do
    local allowed, window_us, guard_us = limit[1], limit[2], limit[3]
    if sends >= allowed then
      at = math.max(at, sent_at(sends - allowed, gate.size) + window_us + guard_us)
    end
  end
  return math.ceil(at)
end

-- Spacing counts from when a send was due, so that one that comes a little late delays no other; later
-- than that there was simply nothing to send, and spacing begins anew. No window ever holds more for it.
local CATCH_UP_US = 200000
local function reserve(cfg, gate, at_us)
  local sends, due = gate.n or 0, (gate.due or 0) + spacing_us(cfg, gate)
  if at_us - due > CATCH_UP_US then due = at_us end
  redis.call('SETRANGE', K.ring, (sends % gate.size) * 16, string.format('%016.0f', at_us))
  set_gate(gate, 'n', sends + 1, 'last', int(at_us), 'due', int(due))
end

local function width(cfg, gate)
  if (gate.probing or 0) > 0 then return 1 end
  if gate.batch_size and NOW < gate.batch_size_until then return math.min(cfg.batch_size, gate.batch_size) end
  return cfg.batch_size
end

local function room(cfg, gate)
  redis.call('ZREMRANGEBYSCORE', K.inflight, '-inf', int(NOW))
  return ((gate.probing or 0) > 0 and 1 or cfg.max_in_flight) - redis.call('ZCARD', K.inflight)
end

local function first_score(zset)
  local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')
  return tonumber(first[2]) or NEVER
end

-- Since when the first job of a lane has been ready. Ids of jobs that were dealt with otherwise are
-- dropped on the way, a bounded number.
local function ready_since(list)
  for _ = 1, 1000 do
    local id = redis.call('LINDEX', list, 0)
    if not id then return NEVER end
    local head = redis.call('HMGET', K.job .. id, 's', 'g', 't')
    if head[1] == 'q' then return tonumber(head[2] or head[3]) end
    redis.call('LPOP', list)
  end
  return 0
end

-- A full batch is ripe at once, a part of one when its first job has been ready for the linger time.
local function ripe_at(cfg, gate)
  if redis.call('LLEN', K.isolate) > 0 then return NOW end
  local since = math.min(ready_since(K.urgent), ready_since(K.queue))
  if since == NEVER then return NEVER end
  local waiting = redis.call('LLEN', K.urgent) + redis.call('LLEN', K.queue)
  -- Ready in the future: from before the clock stepped back, so it has waited long enough.
  if since > NOW or waiting >= width(cfg, gate) then return NOW end
  return since + cfg.linger_ms
end

-- When the next batch may start, ms, and what it waits for; NOW or earlier means: now.
local function when(cfg, gate)
  local at, why = ripe_at(cfg, gate), 'linger'
  if at == NEVER then return NEVER, 'idle' end
  if gate.paused then return NEVER, 'paused' end
  local function wait(candidate, reason)
    if candidate > at and candidate > NOW then at, why = candidate, reason end
  end
  wait(gate.closed_until or 0, gate.why or 'closed')
  if room(cfg, gate) <= 0 then wait(first_score(K.inflight), 'in flight') end
  wait((slot_us(cfg, gate) - cfg.horizon_us) / 1000, 'rate')
  return at == NEVER and at or math.ceil(at), why
end

-- When somebody must look at the org again, ms: for the next batch, a due retry, an overdue lease, a check.
local function next_look(at)
  return math.min(at, first_score(K.retry), first_score(K.leases), first_score(K.checks))
end
