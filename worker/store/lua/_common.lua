-- Shared by every script: the clock, the counters of runs, dying.
-- Before it stand the tables K of keys (keys.py) and F of fields, S of states, A of answers (record.py).
local time = redis.call('TIME')
local NOW_US = time[1] * 1000000 + time[2]
local NOW = math.floor(NOW_US / 1000)
local NEVER = math.huge
local CALL_TTL_S = 900 -- longer than any client repeats a call whose reply was lost

-- A record that only a newer program can read says so in its field "version". It is left as it is, whoever asks.
local function newer(version) return (tonumber(version or nil) or 1) > RECORD_VERSION end

-- tostring() loses digits of large numbers.
local function int(n) return string.format('%.0f', n) end

-- JSON has no infinity: "never" is -1.
local function instant(at) return at == NEVER and -1 or at end

-- What a run holds in each state, collected while a script goes on and written once at its end.
local COUNTER = {}
for name, letter in pairs(S) do COUNTER[letter] = name end
local tally = {}

local function count(run, counter, by)
  if not run then return end
  local mine = tally[run] or {}
  tally[run] = mine
  mine[counter] = (mine[counter] or 0) + by
end

local function moved(run, from, to)
  if from then count(run, COUNTER[from], -1) end
  count(run, COUNTER[to], 1)
end

-- A run that is over is kept as long as a result is; one that has work, or a dead letter that needs a
-- person, for as long as it has.
local function keep(run, ttl_ms)
  if ttl_ms then
    redis.call('PEXPIRE', K.run .. run, ttl_ms)
    redis.call('PEXPIRE', K.jobs .. run, ttl_ms)
    redis.call('ZADD', K.ended, int(NOW + ttl_ms), run)
  else
    redis.call('PERSIST', K.run .. run)
    redis.call('PERSIST', K.jobs .. run)
    redis.call('ZREM', K.ended, run)
  end
end

local function write_counts()
  for run, counters in pairs(tally) do
    local key = K.run .. run
    for counter, by in pairs(counters) do
      if by ~= 0 then redis.call('HINCRBY', key, counter, int(by)) end
    end
    local held = redis.call('HMGET', key, 'queued', 'sending', 'retrying', 'unhandled', 'ttl_ms')
    if (tonumber(held[1]) or 0) + (tonumber(held[2]) or 0) + (tonumber(held[3]) or 0) == 0 then
      redis.call('HSETNX', key, 'finished_at', int(NOW))
      keep(run, (tonumber(held[4]) or 0) == 0 and held[5])
    elseif redis.call('HDEL', key, 'finished_at') == 1 then
      keep(run)
    end
  end
end

local function stat(counter, by)
  if by ~= 0 then redis.call('HINCRBY', K.stats, counter, int(by)) end
end

-- How long after its call a job in doubt is checked with the vendor, ms; nil: it waits for a person.
local check_after_ms = nil

-- By kind and code; codes are the vendor's, so that there may be any number of them.
local MOST_CODES = 100
local function stat_dead(kind, code)
  stat('dead:' .. kind, 1)
  local counter = 'dead:' .. kind .. ':' .. code
  if redis.call('HEXISTS', K.stats, counter) == 0 then
    if (tonumber(redis.call('HGET', K.stats, 'codes') or nil) or 0) >= MOST_CODES then
      counter = 'dead:' .. kind .. ':other'
    else
      stat('codes', 1)
    end
  end
  stat(counter, 1)
end

-- Those that died while a script went on, for the caller's log: {{id, run, kind, code}, ...}
local died = {}

-- A job becomes a dead letter of a kind; from is its state till now, nil for one that is just born.
local function bury(id, run, from, kind, ...)
  redis.call('HSET', K.job .. id, F.state, S.dead, F.kind, kind, F.finished_at, int(NOW), ...)
  redis.call('ZADD', K.dead .. kind, int(NOW), id)
  moved(run, from, S.dead)
  count(run, 'dead:' .. kind, 1)
  count(run, 'unhandled', 1)
  local code = redis.call('HGET', K.job .. id, F.code) or 'none'
  stat_dead(kind, code)
  died[#died + 1] = {id, run or '', kind, code}
  if kind == 'in_doubt' and check_after_ms then redis.call('ZADD', K.checks, int(NOW + check_after_ms), id) end
end

-- A dead letter needs nobody any more; answers whether it needed somebody till now.
local function unlist(id, run, kind)
  redis.call('ZREM', K.checks, id)
  if redis.call('ZREM', K.dead .. kind, id) == 0 then return false end
  count(run, 'unhandled', -1)
  return true
end

local function forget_message(id)
  local m = F.message -- and the fields that a longer one goes on in
  redis.call('HDEL', K.job .. id, m, m .. 1, m .. 2, m .. 3)
end

-- A dead letter is one no longer: it is queued again, or turned out to be issued.
local function exhume(id, run, kind)
  unlist(id, run, kind)
  redis.call('HDEL', K.job .. id, F.kind, F.code, F.finished_at, F.absent_since)
  forget_message(id)
  count(run, 'dead:' .. kind, -1)
end

-- A job that is ready waits in its lane; an urgent one overtakes the bulk.
local function lane(id) return redis.call('HEXISTS', K.job .. id, F.urgent) == 1 and K.urgent or K.queue end

-- Count what an action did in its entry of the audit trail, in one with the doing; '' has none.
local function audited(action, by)
  local key = K.audit .. action
  if action ~= '' and redis.call('EXISTS', key) == 1 then redis.call('HINCRBY', key, 'count', int(by)) end
end

-- A batch that carried these customers is in flight no more.
local function free(batch, customers)
  if #customers == 0 then return end
  local gone = {}
  for n, holder in ipairs(redis.call('HMGET', K.busy, unpack(customers))) do
    if holder == batch then gone[#gone + 1] = customers[n] end
  end
  if #gone > 0 then redis.call('HDEL', K.busy, unpack(gone)) end
end

-- The places of the pool, and its seats, each {org, probing}. Those of a worker that is gone hold nobody up;
-- nor does what is further ahead than anybody sets it: it is from before Redis's clock stepped back.
local LONGEST_ALIVE_MS, LONGEST_SEAT_MS = 60000, 660000
local function in_pool(pool, seats)
  local places, alive, taken = 0, {}, {}
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', pool, int(NOW), int(NOW + LONGEST_ALIVE_MS))) do
    local worker, its = one:match('^(%S+) (%d+)$')
    places, alive[worker] = places + tonumber(its), true
  end
  for _, seat in ipairs(redis.call('ZRANGEBYSCORE', seats, int(NOW), int(NOW + LONGEST_SEAT_MS))) do
    local org, worker, rest = seat:match('^(%S+) (%S+) (.+)$')
    if worker and alive[worker] then taken[#taken + 1] = {org, rest:match(' probing$')} end
  end
  return places, taken
end

local function said(call) return redis.call('GET', K.call .. call) end

local function say(call, answer)
  redis.call('SET', K.call .. call, answer, 'EX', CALL_TTL_S)
  return answer
end
