#!lua flags=allow-oom
-- Settle a batch: write what became of each of its jobs, and what its answer says about the org.
-- Runs on a full server as well: outcomes must never be lost for want of memory.
-- KEYS[1]  the org's slot
-- ARGV[1]  batch id
-- ARGV[2]  JSON: cfg of the gate, and jobs = {{id, verb, argument, field, value, ...}, ...}, sent (whether
--          the PUT was made), signal, reason, wait_ms (0: not said), status, elapsed_ms, took (the bound of
--          TOOK_MS that it counts under, 0: longer), ttl_ms, missing = {badgeMetaId, ...} that the vendor
--          doesn't know, missing_ttl_ms
--          verbs and their arguments: see Verb in protocol.py
-- Returns  JSON: {issued, dead, retrying, queued, late, more, at, clock[, twice][, died][, paused]}
--          twice: {ids} that the vendor issued a second time    died: {{id, run, kind, code}, ...}
--          paused: why, where this answer paused the org
-- Repeated: the same batch gets the same answer.
-- The answer that comes late: given up as in doubt from this batch, certain knowledge wins; queued
--          again since, "issued" wins and the id left in the queue is skipped; sent again since, it is
--          issued whatever that call brings: a second earnedBadgeId is kept in the record, the id returned in twice.
local batch, s = ARGV[1], cjson.decode(ARGV[2])
check_after_ms = s.cfg.check_after_ms
local before = said('settle:' .. batch)
if before then return before end

local gate = read_gate(s.cfg)
local done = {issued = 0, dead = 0, retrying = 0, queued = 0, late = 0}
local twice, put_back, groups, isolated = {}, {}, {}, {}

local last_issued
local customers = {}

local function remember(key, entry)
  local n = redis.call('HINCRBY', key, F.failures, 1)
  local line = int(NOW) .. ' ' .. batch .. ' ' .. s.status .. ' ' .. entry
  redis.call('HSET', key, F.failure .. (n % 10), line:sub(1, 64))
end

local apply = {
  issued = function(id, key, run, from, _, ...)
    redis.call('HSET', key, F.state, S.issued, F.finished_at, int(NOW), ...)
    redis.call('PEXPIRE', key, int(s.ttl_ms))
    moved(run, from, S.issued)
    done.issued = done.issued + 1
    last_issued = id
  end,
  dead = function(id, key, run, from, kind, ...)
    bury(id, run, from, kind, ...)
    done.dead = done.dead + 1
  end,
  retry = function(id, key, run, from, delay_ms, ...)
    redis.call('HSET', key, F.state, S.retrying, ...)
    redis.call('ZADD', K.retry, int(T + delay_ms), id)
    moved(run, from, S.retrying)
    done.retrying = done.retrying + 1
  end,
  put_back = function(id, key, run, from, _, ...)
    redis.call('HSET', key, F.state, S.queued, ...)
    put_back[#put_back + 1] = id
    moved(run, from, S.queued)
    done.queued = done.queued + 1
  end,
  isolate = function(id, key, run, from, group_and_width, ...)
    redis.call('HSET', key, F.state, S.queued, ...)
    if not isolated[group_and_width] then
      isolated[group_and_width] = {}
      groups[#groups + 1] = group_and_width
    end
    table.insert(isolated[group_and_width], batch .. '.' .. group_and_width .. ' ' .. id)
    moved(run, from, S.queued)
    done.queued = done.queued + 1
  end,
}

local function field(job, name)
  for n = 4, #job, 2 do
    if job[n] == name then return job[n + 1] end
  end
end

local function settle(job)
  local id, verb, argument = job[1], job[2], job[3]
  local key = K.job .. id
  local f = redis.call('HMGET', key,
    F.state, F.batch, F.run, F.kind, F.earned_badge_id, F.customer_id, F.version)
  local state, holder, run, kind, earned, customer = unpack(f)
  if not state then return end
  customers[#customers + 1] = customer
  if newer(f[7]) then
    done.late = done.late + 1
    return
  end
  local ours = holder == batch
  local certain = not (verb == 'dead' and argument == 'in_doubt')
  -- One that was discarded, or whose place another job took, is in no index: it must not be queued again.
  local in_doubt_since = ours and state == S.dead and kind == 'in_doubt'
    and redis.call('ZSCORE', K.dead .. kind, id)
  if (ours and state == S.sending) or (in_doubt_since and certain) then
    if in_doubt_since then exhume(id, run, kind) end
    if verb ~= 'issued' and s.sent then remember(key, field(job, F.code) or '-') end
    apply[verb](id, key, run, state, argument, unpack(job, 4))
  elseif verb ~= 'issued' then
    done.late = done.late + 1
  elseif state == S.issued then
    if not earned then -- a person knew it before
      redis.call('HSET', key, unpack(job, 4))
    elseif earned ~= field(job, F.earned_badge_id) then
      redis.call('HSET', key, F.second_earned_badge_id, field(job, F.earned_badge_id))
      twice[#twice + 1] = id
    end
  else
    -- Also if it is being sent again: that call may fail, and the next one would issue it once more.
    if state == S.dead then exhume(id, run, kind) end
    apply.issued(id, key, run, state, argument, unpack(job, 4))
  end
end

-- What the answer says about the org. "paused" is taken back by hand, the others by themselves.
local function close(for_ms, why)
  local reopens = T + for_ms
  if reopens > (gate.closed_until or 0) then
    set_gate(gate, 'closed_until', int(reopens), 'why', why, 'since', int(gate.since or NOW))
  end
  if not gate.paused then set_gate(gate, 'reason', s.reason) end
end

local function pause(why)
  if gate.paused then return end
  set_gate(gate, 'paused', why, 'reason', s.reason, 'since', int(NOW))
  done.paused = why
end

-- 1, 2, 4 ... seconds, a minute at most.
local function growing_ms(times) return math.min(60000, 1000 * 2 ^ math.min(times - 1, 6)) end

local function more_often(counter)
  set_gate(gate, counter, (gate[counter] or 0) + 1)
  return gate[counter]
end

-- When the call was sent, us, and its number among the sends; nil where the batch was given up since.
local function sent_as()
  local slot = redis.call('LRANGE', K.batch .. batch, 0, 1)
  return slot[2] and {at = tonumber(slot[1]), n = tonumber(slot[2])}
end

-- Calls that were in flight together say one thing: whether this one was claimed since what is known of that
-- kind. If so, those that are in flight now will say nothing more.
local function says_more(sent, known)
  if not sent or sent.n < (gate[known] or 0) then return false end
  set_gate(gate, known, int(gate.n))
  return true
end

local PROBE_AFTER_FAILURES, PAUSE_AFTER_REFUSALS, SMALLER_FOR_MS = 3, 20, 3600000

local act = {
  ok = function(sent)
    if done.issued > 0 then redis.call('HDEL', K.gate, 'refusals') end
    if sent and sent.n >= (gate.taught or 0) then redis.call('HDEL', K.gate, 'throttled') end
    -- One that was sent before the last in doubt says nothing about an outage that began since.
    if not sent or sent.n < (gate.doubtful or 0) then return end
    redis.call('HDEL', K.gate, 'probing', 'failures')
    gate.probing = nil
    if not gate.paused and (gate.closed_until or 0) <= T then redis.call('HDEL', K.gate, 'since') end
  end,
  throttled = function(sent)
    local first = gate.taught or oldest(gate)
    if not says_more(sent, 'taught') then
      if s.wait_ms > 0 then close(s.wait_ms, 'throttled') end
      return
    end
    -- The next pause is longer if the first call after this one is refused, too.
    if not gate.throttled or sent.n == first then more_often('throttled') end
    close(s.wait_ms > 0 and s.wait_ms or growing_ms(gate.throttled), 'throttled')
    learn(s.cfg, gate, sent, first, s.wait_ms > 0)
  end,
  unavailable = function(sent)
    if not says_more(sent, 'failed') then return end
    local times = more_often('failures')
    if times >= PROBE_AFTER_FAILURES then more_often('probing') end
    close(growing_ms(times), 'vendor unavailable')
  end,
  -- The first doubt is probed at once; the pauses grow from the first probe that fails.
  in_doubt = function(sent)
    if sent then set_gate(gate, 'doubtful', int(math.max(sent.n, gate.doubtful or 0))) end
    if not says_more(sent, 'doubted') then return end
    local failed_probes = more_often('probing') - 1
    if failed_probes > 0 then
      close(growing_ms(failed_probes), 'answer in doubt')
    else
      set_gate(gate, 'why', 'answer in doubt', 'since', int(gate.since or NOW))
    end
  end,
  unauthorized = function() pause('auth') end,
  misconfigured = function() pause('config') end,
  too_large = function()
    -- An older, larger batch teaches nothing new.
    local smaller = math.max(1, math.floor(#s.jobs / 2))
    if smaller < width(s.cfg, gate) then
      set_gate(gate, 'batch_size', smaller, 'batch_size_until', int(T + SMALLER_FOR_MS))
    end
  end,
  refused = function()
    if more_often('refusals') >= PAUSE_AFTER_REFUSALS then pause('config') end
  end,
  stale_token = function() end,
  none = function() end,
}

for _, job in ipairs(s.jobs) do settle(job) end
-- To the head, in their order: they have waited longest.
for n = #put_back, 1, -1 do redis.call('LPUSH', lane(put_back[n]), put_back[n]) end
-- Group by group, however the batch mixed them: claim takes the head run of one tag.
for _, group in ipairs(groups) do redis.call('RPUSH', K.isolate, unpack(isolated[group])) end
for _, badge in ipairs(s.missing) do
  redis.call('ZADD', K.missing, int(NOW + s.missing_ttl_ms), badge)
end
redis.call('ZREMRANGEBYSCORE', K.missing, '-inf', int(NOW))
-- nginx's limiter answers so; doctor asks for it long after the gate is open again.
if string.find(s.reason, '503 by nginx', 1, true) then set_gate(gate, 'limiter', s.reason) end
act[s.signal](sent_as())
if s.signal == 'none' then take_back_slot(s.cfg, gate, K.batch .. batch) end
redis.call('DEL', K.batch .. batch)
redis.call('ZREM', K.leases, batch)
redis.call('ZREM', K.inflight, batch)
free(batch, customers)
-- What was issued last, for whoever must know that the vendor's read side shows what came before it.
if last_issued then set_gate(gate, 'witness', last_issued .. ' ' .. int(NOW)) end
write_counts()
if s.sent then
  if gate.trouble then redis.call('HDEL', K.gate, 'trouble') end
  stat('requests', 1)
  stat('items', #s.jobs)
  stat('status:' .. s.status, 1)
  stat('elapsed_ms', s.elapsed_ms)
  stat('retried', done.retrying)
  stat('put_back', done.queued)
  if s.took > 0 then stat('took:' .. s.took, 1) end
end
stat('issued', done.issued)
stat('issued_twice', #twice)
local at = when(s.cfg, gate)
done.more = at <= T
done.at = next_look(at)
done.clock = int(T_US)
done.twice = #twice > 0 and twice or nil
done.died = #died > 0 and died or nil
return say('settle:' .. batch, cjson.encode(done))
