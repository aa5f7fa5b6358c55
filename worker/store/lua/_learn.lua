-- What a 429 teaches: how far apart calls are from now on. The vendor's limit is unknown, and so is its kind: a
-- window of a second or a minute, sliding or fixed, a bucket, or a least distance between two calls. What was
-- let through before the refusal tells; tests/bench/learning.py tries it on all of these.

local SECOND_US = 1000000
local CALM_US, CALM_CALLS = 10000000, 10 -- after that long without a refusal, what was learned was right
local LEAST_CUT, MOST_CUT = 0.05, 0.4
local SPAN_US, FIRST_SPAN_US, SURE_SPAN_US, SPAN_CALLS = 15000000, 10000000, 25000000, 100
local TIMES_AS_LONG = 20 -- as the refusal took, a lesson holds at least: behind a tarpit each costs seconds
local TELLING = 4 -- calls; fewer within a period say nothing
local LAST, LAG = 8, 3 -- where the rate rises from nothing, the last calls went at half of it, or less

-- Calls per us when the refused one was sent: as spaced, or fewer where no more could be in flight.
local function rate_then(cfg, gate, sent, first)
  local rate = 1 / spacing_us(cfg, gate, sent.at)
  local before = sent.n - LAST
  if before < math.max(first, oldest(gate)) then return rate end
  return math.min(rate, LAG * LAST / math.max(1, sent.at - sent_at(gate, before)))
end

-- The first send of the minute until an instant, us.
local function minute_begins(gate, up_to)
  return sent_at(gate, first_send(gate, function(n) return sent_at(gate, n) > up_to - MINUTE_US end))
end

-- What was let through on average, pauses included: the limit, if its window is longer than those. After a minute
-- of pauses that's an outage, and teaches no more than it did. nil: too few calls to tell.
local function average(gate, up_to, reopens)
  local calls = sent_between(gate, up_to - MINUTE_US, up_to - 1)
  if calls < TELLING then return nil end
  local from = math.max(minute_begins(gate, up_to) - 1, reopens - MINUTE_US)
  return math.max(calls / MINUTE_US, sent_between(gate, from, up_to - 1) / (reopens - from))
end

-- Begin at one rate when the gate opens, and tend to another; took: how long the refusal did, us.
local function go_on_at(gate, low, high, span, took)
  high = math.max(low, high)
  local by_window = span == SURE_SPAN_US and 1 or 0
  local calls = span == FIRST_SPAN_US and SPAN_CALLS / 10 or SPAN_CALLS
  span = math.max(span, calls / high, math.min(TIMES_AS_LONG * took, MINUTE_US))
  local swing = math.max(0.03, 1 - low / high)
  set_gate(gate, 'learned', 1 / high, 'swing', swing, 'span', int(span), 'by_window', by_window)
end

-- Nothing was let through after a pause: the window is longer than that.
local function learn_from_pauses(gate, rate, reopens)
  local most = average(gate, gate.taught_at or 0, reopens)
  if most then go_on_at(gate, math.min(rate, most), 0.97 * rate, SPAN_US, 0) end
end

-- Whether the vendor counts by the second: the last one let through as much as the second before the lesson before,
-- or more by what the rate has risen in it.
local function counts_by_the_second(gate, let)
  if not gate.let or let < TELLING then return false end
  local risen = gate.swing / gate.learned / gate.span * SECOND_US ^ 2 / 2
  return let <= 1.05 * gate.let + 1 + math.min(0.25 * gate.let, risen)
end

-- Whether what was learned has been right for so long, us.
local function is_calm(run, rate) return run >= math.max(CALM_US, CALM_CALLS / rate) end

-- How long the gate is closed where the vendor doesn't say: one that was known well needn't be kept away from.
local function pause_ms(cfg, gate, sent)
  local SHORT_MS = 250
  local known = slowed(cfg, gate, sent.at) and is_calm(sent.at - gate.learned_from, 1 / spacing_us(cfg, gate, sent.at))
  return known and gate.throttled == 1 and SHORT_MS or growing_ms(gate.throttled)
end

-- A lesson, once the gate is closed; sent: when the refused call was sent, us, and its number; first: the number of
-- the first send since the last lesson; told: the vendor said until when to wait. The first lesson begins with what
-- the last second let through and speeds up until the next one, which tells whether the vendor counts by the second.
-- Later ones cut the rate, the more the sooner they come, but never below what was let through since the last.
local function learn(cfg, gate, sent, first, told)
  local rate, calls = rate_then(cfg, gate, sent, first), sent.n - first
  local reopens = gate.closed_until * 1000
  local fresh = not slowed(cfg, gate, sent.at)
  local since = fresh and minute_begins(gate, sent.at) or gate.learned_from
  set_gate(gate, 'learned_from', int(reopens))
  if not fresh and calls <= 0 then return learn_from_pauses(gate, rate, reopens) end
  local run = math.max(1, sent.at - since)
  local calm = is_calm(run, rate)
  local soon = math.max(SECOND_US / 2, math.min(6 / rate, 4 * SECOND_US)) -- after so long a lesson weighs in full
  local cut = math.max(LEAST_CUT, math.min(MOST_CUT, soon / run))
  local low, high, span = rate * (1 - cut), 0.97 * rate, SPAN_US
  local let = sent_between(gate, sent.at - SECOND_US, sent.at - 1)
  if told and reopens - T_US > SECOND_US then
    local most = not calm and average(gate, sent.at, reopens) or low
    if most < low then low, high = most, math.min(high, 1.1 * most) end
    span = SURE_SPAN_US
  elseif fresh then
    low, span = math.min(low, 0.97 * math.max(1, let) / SECOND_US), FIRST_SPAN_US
    set_gate(gate, 'let', let)
  else
    if not calm and counts_by_the_second(gate, let) then
      low, span = 0.95 * gate.let / SECOND_US, SURE_SPAN_US
      high = 1.02 * low
    end
    low = math.max(low, calls / (sent.at - gate.taught_at))
    redis.call('HDEL', K.gate, 'let')
  end
  go_on_at(gate, math.min(low, (1 - LEAST_CUT) * rate), high, span, fresh and 0 or T_US - sent.at)
  set_gate(gate, 'taught_at', int(sent.at))
end
