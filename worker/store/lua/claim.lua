#!lua
-- Claim a batch: "you may make one PUT at this time", or when to ask again and why. No record is written:
-- that a job is being sent is what the batch's list and the hash "sending" say.
-- On the way, overdue leases are given up, due retries are put back, and a run whose time has come begins, a
-- bounded number each.
-- Uses     clock calls record sending runs outbox dead later lanes gate same
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  batch id, made by the caller
-- ARGV[2]  JSON: cfg of the gate, and call_ms (how long the call may take), lease_ms, in_doubt, max_attempts
-- Returns  JSON: {send_in_us, more, at, clock[, gap_us, died, batch]} or, without jobs, {why, at, check, clock[, died]};
--          behind the former id, record, id, record, ...
--          gap_us: how far behind the call before it this one is to leave, where the vendor may go by that
--          batch: its id, where it is another: that of a request in doubt which is sent again as it was
--          at: when to look again, ms, -1 never; check: whether a job in doubt is due to be checked with the
--          vendor; clock: as the org tells it, us (_gate.lua); died: of each that did its id, run, kind and code
-- Repeated: the same batch id gets those of its jobs that are still its own, at the same slot; once it is
--          settled or released, none.
local asked, cfg = ARGV[1], cjson.decode(ARGV[2])
local batch = asked
local SWEEP, LEAVE_FOR_MS = 1000, 60000
check_after_ms = cfg.check_after_ms

-- For a newer program: taken out of the way, and looked at again by the next claim that is due then.
local function leave(id) redis.call('ZADD', K.retry, int(T + LEAVE_FOR_MS), id) end

-- A holder that disappeared may have sent its batch: nobody can know.
local function doubt(id, fields, lost)
  fields[FIELD.batch], fields[FIELD.was_in_doubt] = lost, '1'
  local attempts = (tonumber(fields[FIELD.attempts]) or 0) + 1
  -- Sent again it spends an attempt, so that a batch that kills its workers doesn't do so for ever.
  if cfg.in_doubt == 'resend' and attempts < cfg.max_attempts then
    fields[FIELD.attempts] = attempts
    wait_again(id, fields, 'sending')
  else
    if cfg.in_doubt == 'resend' then fields[FIELD.attempts] = attempts end
    fields[FIELD.kind], fields[FIELD.code] = KIND.in_doubt, 'lease_expired'
    fields[FIELD.message] = 'its worker disappeared during the call'
    bury(id, fields, 'sending')
  end
end

local function give_up(lost, ids, raws)
  local holders = carriers(ids)
  for n, holder in ipairs(holders) do
    local fields = raws[n] and parse(raws[n])
    -- The list is the truth: what it carries is in doubt, unless another batch that is going on carries it.
    if fields and fields[FIELD.state] == STATE.queued and (holder == lost or not is_live(holder)) then
      doubt(ids[n], fields, lost)
    end
  end
  keep_request(lost, ids, died)
  release_batch(lost, still_own(lost, ids, holders))
end

local function holds_newer(raws)
  for _, raw in ipairs(raws) do
    if raw and newer(raw:match('^%d+')) then return true end
  end
end

local function give_up_leases()
  local seen = 0
  for _, lost in ipairs(redis.call('ZRANGEBYSCORE', K.leases, '-inf', int(T), 'LIMIT', 0, 10)) do
    local ids = carried_by(lost)
    local raws = records_of(ids)
    if holds_newer(raws) then
      redis.call('ZADD', K.leases, int(T + LEAVE_FOR_MS), lost)
    else
      give_up(lost, ids, raws)
    end
    seen = seen + #ids
    if seen >= SWEEP then return end
  end
end

local function put_back_due_retries()
  local due = redis.call('ZRANGEBYSCORE', K.retry, '-inf', int(T), 'LIMIT', 0, SWEEP)
  local raws = records_of(due)
  for n, id in ipairs(due) do
    local raw = raws[n]
    if raw and newer(raw:match('^%d+')) then
      leave(id)
    else
      redis.call('ZREM', K.retry, id)
      local fields = raw and parse(raw)
      if fields and fields[FIELD.state] == STATE.retrying then
        wait_again(id, fields, 'retrying')
      elseif fields and fields[FIELD.state] == STATE.queued then -- an older program left it
        redis.call('RPUSH', lane(fields[FIELD.urgent]), id)
      end
    end
  end
end

-- The jobs of a run whose time has come wait from now on; one that was handled otherwise isn't there any more.
function later.begin()
  local run = redis.call('ZRANGEBYSCORE', K.starts, '-inf', int(NOW), 'LIMIT', 0, 1)[1]
  if not run then return end
  local ids = redis.call('LPOP', K.later .. run, SWEEP) or {}
  local raws, holders, ends = records_of(ids), carriers(ids), {[K.queue] = {}, [K.urgent] = {}}
  for n, id in ipairs(ids) do
    local raw = raws[n]
    if raw and newer(raw:match('^%d+')) then
      leave(id)
    elseif raw and not is_live(holders[n]) then
      local fields = parse(raw)
      if fields[FIELD.state] == STATE.queued then wait_again(id, fields, 'queued', ends) end
    end
  end
  many.write_all()
  for list, of_it in pairs(ends) do
    if #of_it > 0 then redis.call('RPUSH', list, unpack(of_it)) end
  end
  if #ids < SWEEP then redis.call('ZREM', K.starts, run) end
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

-- What was popped: jobs to be sent, and those that stay behind at the head of their lane, because their customer
-- is in another batch in flight, unless the batch wouldn't be full without them: the vendor refuses a customer
-- it is busy with (521).
local jobs, behind, taken, missing = {}, {}, {}, {}

local function is_missing(badge)
  if missing[badge] == nil then
    missing[badge] = (tonumber(redis.call('ZSCORE', K.missing, badge) or nil) or 0) > NOW
  end
  return missing[badge]
end

-- A job, if what was popped is one to be sent: its record says that it is queued, no batch that is going on
-- carries it, and it wasn't taken in this call. An id can lie in its lane twice, after a cancel and a replay.
local function candidate(id, raw, holder)
  if not raw then return end
  local version, state, urgent, run, badge, customer = head(raw)
  if newer(version) then return leave(id) end
  if state ~= STATE.queued or taken[id] or is_live(holder) then return end
  taken[id] = true
  if is_cancelled(run) then -- its cancellation hasn't come this far yet
    local fields = parse(raw)
    set_cancelled(fields)
    audited(redis.call('HGET', K.run .. run, 'cancelled'), 1)
    return bury(id, fields, 'queued')
  end
  if is_missing(badge) then -- it costs no call
    local fields = parse(raw)
    fields[FIELD.kind], fields[FIELD.code] = KIND.rejected, '1054'
    fields[FIELD.message] = 'the vendor does not know this badge'
    return bury(id, fields, 'queued')
  end
  return {id = id, raw = raw, run = run, urgent = urgent, customer = customer}
end

local function accept(job)
  moved(job.run, 'queued', 'sending')
  jobs[#jobs + 1] = job
end

local in_flight = {}
local function is_in_flight(holder)
  if not holder then return false end
  if in_flight[holder] == nil then in_flight[holder] = is_live(holder) end
  return in_flight[holder]
end

local function take(ids, most, most_behind)
  local raws, holders, candidates, customers = records_of(ids), carriers(ids), {}, {}
  for n, id in ipairs(ids) do
    local job = candidate(id, raws[n], holders[n])
    if job then
      candidates[#candidates + 1], customers[#customers + 1] = job, job.customer
    end
  end
  local is_busy = #customers > 0 and redis.call('HMGET', K.busy, unpack(customers)) or {}
  for n, job in ipairs(candidates) do
    if most_behind > 0 and is_in_flight(is_busy[n]) then
      behind[#behind + 1] = job
      if #behind > most_behind then accept(table.remove(behind, 1)) end
    else
      accept(job)
    end
  end
end

local function draw(list, most)
  local popped = 0
  while #jobs < most and popped < SWEEP do
    local ids = redis.call('LPOP', list, most - #jobs)
    if not ids then return end
    take(ids, most, most)
    popped = popped + #ids
  end
end

local function fill_from_behind(most)
  while behind[1] and #jobs < most do accept(table.remove(behind, 1)) end
  for n = #behind, 1, -1 do redis.call('LPUSH', lane(behind[n].urgent), behind[n].id) end
end

-- Urgent jobs first, but a tenth of each batch, or of all batches, is for the bulk, so that it doesn't starve.
local function fill(gate, most)
  if redis.call('LLEN', K.isolate) > 0 then return take(pop_isolated(most), most, 0) end
  local for_bulk = math.floor(most / 10)
  if for_bulk == 0 and gate.n % 10 == 9 then for_bulk = most end
  draw(K.urgent, most - math.min(for_bulk, redis.call('LLEN', K.queue)))
  draw(K.queue, most)
  draw(K.urgent, most)
  fill_from_behind(most)
end

local take_due_request
do
  -- The jobs of a request, if all of them are still in doubt from the last time that it was sent, and none of a run
  -- that was cancelled since; else nothing, and they stay where they are.
  local function all_in_doubt(request, times, ids)
    local last, found = times > 1 and request .. '.' .. int(times) or request, {}
    for n, raw in ipairs(records_of(ids)) do
      local fields = raw and not newer(raw:match('^%d+')) and parse(raw)
      local is_its = fields and fields[FIELD.kind] == KIND.in_doubt and fields[FIELD.batch] == last
      if not is_its or not is_listed(ids[n], fields) or is_cancelled(fields[FIELD.run]) then return nil end
      found[n] = fields
    end
    return found
  end

  -- The id of its next sending. One that was over, or is on its way, was forgotten by a server that failed.
  local function next_sending(request, times)
    local id = request .. '.' .. int(times + 1)
    if recall('settle:' .. id) or is_live(id) then return next_sending(request, times + 1) end
    return id
  end

  -- A request that is due to be sent again as it was: takes its jobs, all of them or none.
  local function take_request(request)
    local kept = redis.call('LRANGE', K.again .. request, 0, -1)
    redis.call('DEL', K.again .. request)
    redis.call('ZREM', K.agains, request)
    local how, since, times, ids = kept[1], tonumber(kept[2]), tonumber(kept[3]), {unpack(kept, 4)}
    if #ids == 0 or how ~= cfg.how or is_too_old(since, T) then return end
    for _, limit in ipairs(cfg.limits) do
      if limit[4] and #ids > limit[1] then return end
    end
    local all = all_in_doubt(request, times, ids)
    for n, fields in ipairs(all or {}) do
      local code, message = fields[FIELD.code], fields[FIELD.message]
      exhume(ids[n], fields)
      fields[FIELD.state], fields[FIELD.code], fields[FIELD.message] = STATE.queued, code, message
      write(ids[n], fields)
      moved(fields[FIELD.run], 'dead', 'sending')
      jobs[n] = {id = ids[n], raw = pack(fields), customer = fields[FIELD.customer]}
    end
    if all then return {batch = next_sending(request, times), since = since} end
  end

  function take_due_request()
    for _, request in ipairs(cfg.how and redis.call('ZRANGEBYSCORE', K.agains, '-inf', int(T), 'LIMIT', 0, 10) or {}) do
      local taken = take_request(request)
      if taken then return taken end
    end
  end
end

local function reply(answer, with)
  answer.clock, answer.died = clock_told(), #died > 0 and died or nil
  local flat = {cjson.encode(answer)}
  for _, job in ipairs(with or {}) do
    flat[#flat + 1] = job.id
    flat[#flat + 1] = job.raw
  end
  return flat
end

local function renamed() return batch ~= asked and batch or nil end

local function claimed_before()
  local ids, slot = carried_by(batch)
  if not slot then return nil end
  local raws, still = records_of(ids), {}
  for n, holder in ipairs(carriers(ids)) do
    if holder == batch and raws[n] then still[#still + 1] = {id = ids[n], raw = raws[n]} end
  end
  return reply({send_in_us = tonumber(slot) - T_US, more = false, at = -1, batch = renamed()}, still)
end

local gate = read_gate(cfg)
if cfg.how then batch = recall('claim:' .. asked) or batch end
local before = claimed_before()
if before then return before end
-- Its holder is done with it: jobs that it took now would have nobody to send or settle them.
if recall('settle:' .. batch) then return reply({why = 'settled', at = -1, check = false}) end

keep_clock(gate)
redis.call('ZREMRANGEBYSCORE', K.inflight, '-inf', int(T))
fit_ring(cfg, gate)
give_up_leases()
put_back_due_retries()
later.begin()
local at, why = when(cfg, gate)
local again
if at <= T then
  again = take_due_request()
  if again then
    batch = memoize('claim:' .. asked, again.batch)
  elseif waiting_ripe_at(cfg, gate) <= T then
    fill(gate, width(cfg, gate))
  end
end
if #jobs == 0 then
  write_ends()
  if why == 'idle' then correct_queued() end
  if at <= T then at, why = when(cfg, gate) end
  return reply({why = why, at = next_look(at), check = first_score(K.checks) <= NOW or revokes_at() <= T})
end

local slot = slot_us(cfg, gate, #jobs)
reserve(cfg, gate, slot, #jobs)
carry(batch, slot, gate.n - 1, jobs)
if cfg.how then note_request(batch, cfg.how, again and again.since or T) end
redis.call('ZADD', K.inflight, int(T + cfg.call_ms), batch)
redis.call('ZADD', K.leases, int(T + cfg.lease_ms), batch)
write_ends()
at = when(cfg, gate)
return reply({
  send_in_us = slot - T_US, gap_us = goes_by_distance(cfg, gate) and int(spacing_us(cfg, gate)) or nil, more = at <= T,
  at = next_look(at), batch = renamed(),
}, jobs)
