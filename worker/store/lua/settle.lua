#!lua flags=allow-oom
-- Settle a batch: write what became of each of its jobs, and what its answer says about the org.
-- Runs on a full server as well: outcomes must never be lost for want of memory.
-- Uses     clock calls record sending runs outbox dead later lanes memory gate learn same
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  batch id
-- ARGV[2]  JSON: cfg of the gate, sent (whether the PUT was made), signal, reason, wait_ms (0: not said),
--          status, request (the vendor's id of it, or '-'), elapsed_ms, took, ttl_ms, missing = {badgeMetaId, ...} that the vendor doesn't know,
--          missing_ttl_ms
-- ARGV[3]… for each row of jobs of which the same becomes: VERB, argument (retry: delay, ms; isolate: "group
--          width"; else ""), run, how many they are, and two for each of them: id, and its new record from
--          "enqueued_at" on ("": it stays as it is)
-- Returns  JSON: {issued, dead, retrying, queued, late, more, at, clock[, twice, died, paused]}
--          twice: ids; died: of each that did its id, run, kind and code; paused: why this answer paused the org
-- Repeated: the same batch gets the same answer.
-- The answer that comes late: given up as in doubt from this batch, certain knowledge wins; queued
--          again since, "issued" wins and the id left in the queue is skipped; sent again since, it is
--          issued whatever that call brings: a second earnedBadgeId is kept, the id returned in twice.
-- A request that was sent again as it was, and put back: its first call may still have applied it, so that its jobs
--          are in doubt as before.
local batch, s = ARGV[1], cjson.decode(ARGV[2])
check_after_ms = s.cfg.check_after_ms
local before = recall('settle:' .. batch)
if before then return before end

local gate = read_gate(s.cfg)
local done = {issued = 0, dead = 0, retrying = 0, queued = 0, late = 0}
local twice, put_back, groups, isolated = {}, {}, {}, {}
local asked, records, last_issued = {}, {}, nil
local function each_row(call)
  local row = 3
  while row <= #ARGV do
    local first, past = row + 4, row + 4 + 2 * ARGV[row + 3]
    call(ARGV[row], ARGV[row + 1], ARGV[row + 2], first, past - 1)
    row = past
  end
end
each_row(function(_, _, _, first, last)
  for at = first, last, 2 do asked[#asked + 1] = ARGV[at] end
end)

local function issued(run, id, from)
  moved(run, from, 'issued')
  done.issued, last_issued = done.issued + 1, id
  note_end(id, 'issued')
end

local function write_issued(run, id, rest)
  records[#records + 1], records[#records + 2] = K.job .. id, ended(rest)
  issued(run, id, 'sending')
end

-- What a call tells of a job that went on without its batch: the rest of the record is as it is by now.
local OUTCOME = {
  'state', 'batch', 'attempts', 'busy', 'kind', 'code', 'message', 'earned_badge_id', 'issued_id', 'request_id',
  'vendor_expiry', 'vendor_expiry_iso', 'vendor_warnings',
}
local function overtaken(job, fields)
  local new = parse(ended(job.rest))
  for _, name in ipairs(OUTCOME) do fields[FIELD[name]] = new[FIELD[name]] end
  fields[FIELD.finished_at], fields[FIELD.was_in_doubt] = new[FIELD.finished_at], '1'
  job.run = fields[FIELD.run]
  return fields
end

-- It was to be sent again as it was, and wasn't: that says nothing of its first call.
local function not_sent_again(job) return job.verb == VERB.put_back and job.rest == '' and is_again(batch) end

local apply
do
  local function die(job, fields, from)
    bury(job.id, fields, from)
    done.dead = done.dead + 1
  end

  -- It would wait again; in a run that was cancelled it doesn't.
  local function waits(job, fields, from, state)
    if is_cancelled(job.run) then
      set_cancelled(fields)
      return die(job, fields, from)
    end
    fields[FIELD.state] = state
    if job.rest ~= '' or from ~= 'sending' then write(job.id, fields) end
    local word = state == STATE.retrying and 'retrying' or 'queued'
    moved(job.run, from, word)
    done[word] = done[word] + 1
    return true
  end

  apply = {
    [VERB.dead] = function(job, fields, from) die(job, fields, from) end,
    [VERB.retry] = function(job, fields, from)
      if waits(job, fields, from, STATE.retrying) then
        redis.call('ZADD', K.retry, int(T + job.argument), job.id)
      end
    end,
    [VERB.put_back] = function(job, fields, from)
      if not_sent_again(job) then
        fields[FIELD.kind], fields[FIELD.batch] = KIND.in_doubt, batch
        return die(job, fields, from)
      end
      if waits(job, fields, from, STATE.queued) then put_back[#put_back + 1] = {job.id, fields[FIELD.urgent]} end
    end,
    [VERB.isolate] = function(job, fields, from)
      if not waits(job, fields, from, STATE.queued) then return end
      local tag = job.argument
      if not isolated[tag] then
        isolated[tag] = {}
        groups[#groups + 1] = tag
      end
      table.insert(isolated[tag], batch .. '.' .. tag .. ' ' .. job.id)
    end,
  }
end

-- What became of a job that this batch carries, or that was given up as in doubt from it: before, its fields.
local function write_outcome(job, from, before_)
  if job.verb == VERB.issued and not before_ then return write_issued(job.run, job.id, job.rest) end
  local fields = job.rest == '' and (before_ or read(job.id))
    or before_ and overtaken(job, before_) or parse(waiting(job.rest))
  if not fields then return end
  if job.verb == VERB.issued then
    if fields[FIELD.fingerprint] == '' then remember(job.id) end
    write(job.id, fields, kept_ms(s.ttl_ms))
    return issued(job.run, job.id, from)
  end
  fields[FIELD.finished_at] = ''
  if s.sent then remember_attempt(fields, batch, s.status, s.request, fields[FIELD.code]) end
  apply[job.verb](job, fields, from)
end

-- A certain "issued" for a job that went on without this batch.
local function issue_late(job, fields, live)
  local state = fields[FIELD.state]
  local known, now = fields[FIELD.earned_badge_id], parse(ended(job.rest))[FIELD.earned_badge_id]
  -- Nothing new is said of it; nor of one that was taken back since.
  if (state == STATE.issued or state == STATE.undone) and (known == now or now == '') then return end
  if state == STATE.issued then
    if known == '' then -- a person knew it before
      local ended_at = fields[FIELD.finished_at]
      fields = overtaken(job, fields)
      fields[FIELD.finished_at] = ended_at
    else
      fields[FIELD.second_earned] = now
      twice[#twice + 1] = job.id
    end
    note_end(job.id, 'issued')
    return write(job.id, fields, kept_ms(s.ttl_ms))
  end
  -- Also if it is being sent again: that call may fail, and the next one would issue it once more.
  if state == STATE.dead then exhume(job.id, fields) end
  if live then take_from_batch(job.id) end
  write_outcome(job, live and 'sending' or WORD[state], fields)
end

local function settle(job, holder, listed)
  if holder == batch then return write_outcome(job, 'sending') end
  local fields = read(job.id)
  if not fields then return end -- expired, forgotten, or a newer program's
  local state, live = fields[FIELD.state], is_live(holder)
  if listed and not live and state == STATE.queued then return write_outcome(job, 'sending') end
  local given_up = fields[FIELD.batch] == batch and fields[FIELD.kind] == KIND.in_doubt and is_listed(job.id, fields)
  local certain = job.verb ~= VERB.dead or parse(waiting(job.rest))[FIELD.kind] ~= KIND.in_doubt
  if not_sent_again(job) then certain = false end
  if given_up and certain then
    exhume(job.id, fields)
    return write_outcome(job, 'dead', fields)
  end
  if job.verb == VERB.issued then return issue_late(job, fields, live) end
  done.late = done.late + 1
end

-- What the answer says about the org. "paused" is taken back by hand, the others by themselves.
local act
do
  local function close(for_ms, why)
    local reopens = T + for_ms
    if reopens > (gate.closed_until or 0) then
      set_gate(gate, 'closed_until', int(reopens), 'why', why, 'since', int(gate.since or NOW))
    end
    set_gate(gate, 'reason', s.reason)
  end

  local function pause(why)
    if gate.paused then return end
    set_gate(gate, 'paused', why, 'pause_reason', s.reason, 'paused_since', int(NOW))
    done.paused = why
  end

  local function more_often(counter)
    set_gate(gate, counter, (gate[counter] or 0) + 1)
    return gate[counter]
  end

  -- Calls that were in flight together say one thing: whether this one was claimed since what is known of that
  -- kind. If so, those that are in flight now will say nothing more. A call without jobs speaks for itself.
  local function says_more(sent, known)
    if #asked == 0 then return true end
    if not sent or sent.n < (gate[known] or 0) then return false end
    set_gate(gate, known, int(gate.n))
    return true
  end

  local PROBE_AFTER_FAILURES, PAUSE_AFTER_REFUSALS, SMALLER_FOR_MS = 3, 20, 3600000

  act = {
    ok = function(sent)
      if done.issued > 0 then redis.call('HDEL', K.gate, 'refusals') end
      if sent and sent.n >= (gate.taught or 0) then redis.call('HDEL', K.gate, 'throttled') end
      -- One that was sent before the last in doubt says nothing about an outage that began since.
      if not sent or sent.n < (gate.doubtful or 0) then return end
      redis.call('HDEL', K.gate, 'probing', 'failures')
      gate.probing = nil
      if (gate.closed_until or 0) <= T then redis.call('HDEL', K.gate, 'since') end
    end,
    throttled = function(sent)
      if #asked == 0 then -- of a call without jobs: what is learned are the batches' lessons
        return close(s.wait_ms > 0 and s.wait_ms or growing_ms(more_often('throttled')), 'throttled')
      end
      local first = gate.taught or oldest(gate)
      if not says_more(sent, 'taught') then
        if s.wait_ms > 0 then close(s.wait_ms, 'throttled') end
        return
      end
      -- The next pause is longer if the first call after this one is refused, too.
      if not gate.throttled or sent.n == first then more_often('throttled') end
      close(s.wait_ms > 0 and s.wait_ms or pause_ms(s.cfg, gate, sent), 'throttled')
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
        set_gate(gate, 'why', 'answer in doubt', 'since', int(gate.since or NOW), 'reason', s.reason)
      end
    end,
    unauthorized = function() pause('auth') end,
    misconfigured = function() pause('config') end,
    too_large = function()
      -- An older, larger batch teaches nothing new.
      local smaller = math.max(1, math.floor(#asked / 2))
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
end

local ids = carried_by(batch, asked)
local holders, listed = carriers(asked), {}
local own = still_own(batch, ids, ids == asked and holders or carriers(ids))
for _, id in ipairs(ids) do listed[id] = true end
do
  local n = 0
  each_row(function(verb, argument, run, first, last)
    for at = first, last, 2 do
      n = n + 1
      local id, rest = ARGV[at], ARGV[at + 1]
      if verb == VERB.issued and holders[n] == batch then
        write_issued(run, id, rest)
      else
        settle({id = id, verb = verb, argument = argument, run = run, rest = rest}, holders[n], listed[id])
      end
    end
  end)
end
write_many(records, kept_ms(s.ttl_ms))
-- To the head, in their order: they have waited longest.
for n = #put_back, 1, -1 do redis.call('LPUSH', lane(put_back[n][2]), put_back[n][1]) end
-- Group by group, however the batch mixed them: claim takes the head run of one tag.
for _, group in ipairs(groups) do redis.call('RPUSH', K.isolate, unpack(isolated[group])) end
for _, badge in ipairs(s.missing) do
  redis.call('ZADD', K.missing, int(NOW + s.missing_ttl_ms), badge)
end
redis.call('ZREMRANGEBYSCORE', K.missing, '-inf', int(NOW))
-- nginx's limiter answers so; doctor asks for it long after the gate is open again, but not for good.
if string.find(s.reason, '503 by nginx', 1, true) then set_gate(gate, 'limiter', int(NOW) .. ' ' .. s.reason) end
local sent_at_us, sent_n = slot_of(batch) -- nil where the batch was given up since
act[s.signal](sent_at_us and {at = sent_at_us, n = sent_n})
if s.signal == 'none' then take_back_slot(s.cfg, gate, batch) end
keep_request(batch, ids, died)
release_batch(batch, own)
-- What was issued last, for whom the vendor's read side must show what came before it.
if last_issued then set_gate(gate, 'witness', last_issued .. ' ' .. int(NOW)) end
-- How long calls that are answered take, as the last of them did: of how many, and their mean, ms.
local function note_pace()
  local LAST = 20
  local calls, mean = (gate.took or '0 0'):match('^(%d+) (%S+)')
  calls = math.min(LAST, calls + 1)
  set_gate(gate, 'took', string.format('%d %.1f', calls, mean + (s.elapsed_ms - mean) / calls))
end

write_ends()
write_remembered()
if s.sent then
  if gate.trouble then redis.call('HDEL', K.gate, 'trouble') end
  stat('requests', 1)
  stat('items', #asked)
  stat('status:' .. s.status, 1)
  stat('elapsed_ms', s.elapsed_ms)
  if tonumber(s.status) then note_pace() end
  stat('retried', done.retrying)
  stat('put_back', done.queued)
  if s.took > 0 then stat('took:' .. s.took, 1) end
end
stat('issued', done.issued)
stat('issued_twice', #twice)
local at = when(s.cfg, gate)
done.more = at <= T
done.at = next_look(at)
done.clock = clock_told()
done.twice = #twice > 0 and twice or nil
done.died = #died > 0 and died or nil
return memoize('settle:' .. batch, cjson.encode(done))
