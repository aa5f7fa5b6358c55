#!lua
-- Claim a batch: "you may make one PUT at this time", or when to ask again and why.
-- On the way, overdue leases are given up and due retries are put back, a bounded number each.
-- KEYS[1]  the org's slot
-- ARGV[1]  batch id, made by the caller
-- ARGV[2]  JSON: cfg of the gate, and call_ms (how long the call may take), lease_ms, in_doubt, max_attempts,
--          badge (the fields of a badge), check_after_ms (absent: jobs in doubt wait for a person)
-- Returns  JSON: {jobs, send_in_us, more, at, clock[, died]} or {why, at, check, clock[, died]}
--          jobs: {id, attempts, busy, traceparent, the fields of cfg.badge} each (false or null: absent)
--          send_in_us: until the slot    more: whether another batch may start now
--          at: when to look again, ms, -1 never    check: whether a job in doubt is due to be checked with
--          the vendor    clock: the org's own, us    died: {{id, run, kind, code}, ...}, where any did
-- Repeated: the same batch id gets the same jobs and the same slot; once it is settled or released, none.
local batch, cfg = ARGV[1], cjson.decode(ARGV[2])
local SWEEP, LEAVE_FOR_MS = 1000, 60000
check_after_ms = cfg.check_after_ms

local function fields_of(id)
  return redis.call('HMGET', K.job .. id, F.state, F.run, F.version, F.attempts, F.busy, F.traceparent,
    unpack(cfg.badge))
end

local function wire(id, f) return {id, f[4], f[5], f[6], unpack(f, 7)} end

-- For a newer program: taken out of the way, and looked at again by whoever claims then.
local function leave(id) redis.call('ZADD', K.retry, int(T + LEAVE_FOR_MS), id) end

-- A holder that disappeared may have sent its batch: nobody can know.
local function doubt(id, run)
  -- Sent again it spends an attempt, so that a batch that kills its workers doesn't do so for ever.
  if cfg.in_doubt == 'resend' and redis.call('HINCRBY', K.job .. id, F.attempts, 1) < cfg.max_attempts then
    redis.call('HSET', K.job .. id, F.state, S.queued, F.ready_since, int(NOW))
    redis.call('RPUSH', lane(id), id)
    moved(run, S.sending, S.queued)
  else
    bury(id, run, S.sending, 'in_doubt', F.code, 'lease_expired',
      F.message, 'its worker disappeared during the call')
  end
end

local function give_up(lost, ids)
  local customers = {}
  for _, id in ipairs(ids) do
    local record = redis.call('HMGET', K.job .. id, F.state, F.batch, F.run, F.customer_id)
    if record[1] == S.sending and record[2] == lost then doubt(id, record[3]) end
    customers[#customers + 1] = record[4] or nil
  end
  free(lost, customers)
  redis.call('DEL', K.batch .. lost)
  redis.call('ZREM', K.leases, lost)
  redis.call('ZREM', K.inflight, lost)
end

local function holds_newer(ids)
  for _, id in ipairs(ids) do
    if newer(redis.call('HGET', K.job .. id, F.version)) then return true end
  end
end

local function give_up_leases()
  local seen = 0
  for _, lost in ipairs(redis.call('ZRANGEBYSCORE', K.leases, '-inf', int(T), 'LIMIT', 0, 10)) do
    local ids = redis.call('LRANGE', K.batch .. lost, 2, -1)
    if holds_newer(ids) then
      redis.call('ZADD', K.leases, int(T + LEAVE_FOR_MS), lost)
    else
      give_up(lost, ids)
    end
    seen = seen + #ids
    if seen >= SWEEP then return end
  end
end

local function put_back_due_retries()
  local due = redis.call('ZRANGEBYSCORE', K.retry, '-inf', int(T), 'LIMIT', 0, SWEEP)
  for _, id in ipairs(due) do
    redis.call('ZREM', K.retry, id)
    local record = redis.call('HMGET', K.job .. id, F.state, F.run, F.version)
    if newer(record[3]) then
      leave(id)
    elseif record[1] == S.queued then -- an older program left it
      redis.call('RPUSH', lane(id), id)
    elseif record[1] == S.retrying then
      redis.call('HSET', K.job .. id, F.state, S.queued, F.ready_since, int(NOW))
      redis.call('RPUSH', lane(id), id)
      moved(record[2], S.retrying, S.queued)
    end
  end
end

-- The head run of one tag, up to its width: what is left of a batch that was refused as a whole.
local function pop_isolated(most)
  local ids, tag = {}, nil
  for _, entry in ipairs(redis.call('LRANGE', K.isolate, 0, most - 1)) do
    local its_tag, its_width, id = entry:match('^(%S+) (%d+) (%S+)$')
    tag = tag or its_tag
    if its_tag ~= tag or #ids >= tonumber(its_width) then break end
    ids[#ids + 1] = id
  end
  if #ids > 0 then redis.call('LTRIM', K.isolate, #ids, -1) end
  return ids
end

-- Jobs whose customer is in another batch in flight: the vendor refuses a customer it is busy with (521).
-- Some stay behind, at the head of the queue, unless the batch wouldn't be full without them.
local behind = {}

-- Whoever pops an id checks the record; a badge that the vendor doesn't know costs no call.
local missing = {}
local function take(id, jobs, most_behind)
  local f = fields_of(id)
  if newer(f[3]) then return leave(id) end
  if f[1] ~= S.queued then return end
  local badge, customer, run = f[7], f[8], f[2]
  if missing[badge] == nil then
    missing[badge] = (tonumber(redis.call('ZSCORE', K.missing, badge) or nil) or 0) > NOW
  end
  if missing[badge] then
    bury(id, run, S.queued, 'rejected', F.code, '1054', F.message, 'the vendor does not know this badge')
    return
  end
  if most_behind > 0 and redis.call('HEXISTS', K.busy, customer) == 1 then
    behind[#behind + 1] = id
    if #behind > most_behind then take(table.remove(behind, 1), jobs, 0) end
    return
  end
  redis.call('HSET', K.job .. id, F.state, S.sending, F.batch, batch)
  moved(run, S.queued, S.sending)
  jobs[#jobs + 1] = wire(id, f)
end

local function draw(list, most, jobs)
  local popped = 0
  repeat
    local ids = redis.call('LPOP', list, most - #jobs) or {}
    for _, id in ipairs(ids) do take(id, jobs, most) end
    popped = popped + #ids
  until #ids == 0 or #jobs >= most or popped >= SWEEP
end

-- Urgent jobs first, but a tenth of each batch, or of all batches, is for the bulk, so that it doesn't starve.
local function fill(gate, most)
  local jobs = {}
  if redis.call('LLEN', K.isolate) > 0 then
    for _, id in ipairs(pop_isolated(most)) do take(id, jobs, 0) end
    return jobs
  end
  local for_bulk = math.floor(most / 10)
  if for_bulk == 0 and gate.n % 10 == 9 then for_bulk = most end
  draw(K.urgent, most - math.min(for_bulk, redis.call('LLEN', K.queue)), jobs)
  draw(K.queue, most, jobs)
  draw(K.urgent, most, jobs)
  for n, id in ipairs(behind) do
    if #jobs < most then
      take(id, jobs, 0)
      behind[n] = false
    end
  end
  for n = #behind, 1, -1 do
    if behind[n] then redis.call('LPUSH', lane(behind[n]), behind[n]) end
  end
  return jobs
end

local function claimed_before()
  local carried = redis.call('LRANGE', K.batch .. batch, 0, -1)
  if #carried == 0 then return nil end
  local jobs = {}
  for n = 3, #carried do jobs[n - 2] = wire(carried[n], fields_of(carried[n])) end
  local send_in_us = tonumber(carried[1]) - T_US
  return cjson.encode({jobs = jobs, send_in_us = send_in_us, clock = int(T_US), more = false, at = -1})
end

local gate = read_gate(cfg)
local before = claimed_before()
if before then return before end
-- Its holder is done with it: jobs that it took now would have nobody to send or settle them.
if said('settle:' .. batch) then
  return cjson.encode({why = 'settled', at = -1, clock = int(T_US), check = false})
end

keep_clock(gate)
fit_ring(cfg, gate)
give_up_leases()
put_back_due_retries()
local at, why = when(cfg, gate)
local jobs = at <= T and fill(gate, width(cfg, gate)) or {}
if #jobs == 0 then
  write_counts()
  if at <= T then at, why = when(cfg, gate) end
  return cjson.encode({
    why = why,
    at = next_look(at),
    clock = int(T_US),
    check = first_score(K.checks) <= NOW,
    died = #died > 0 and died or nil,
  })
end

local slot = slot_us(cfg, gate, #jobs)
reserve(cfg, gate, slot, #jobs)
local ids, customers = {int(slot), gate.n - 1}, {}
for n, job in ipairs(jobs) do
  ids[n + 2] = job[1]
  customers[2 * n - 1], customers[2 * n] = job[6], batch
end
redis.call('RPUSH', K.batch .. batch, unpack(ids))
redis.call('HSET', K.busy, unpack(customers))
redis.call('ZADD', K.inflight, int(T + cfg.call_ms), batch)
redis.call('ZADD', K.leases, int(T + cfg.lease_ms), batch)
write_counts()
at = when(cfg, gate)
return cjson.encode({
  jobs = jobs,
  send_in_us = slot - T_US,
  clock = int(T_US),
  more = at <= T,
  at = next_look(at),
  died = #died > 0 and died or nil,
})
