#!lua flags=allow-oom
-- Forget jobs of a customer: their records, and that they were ever accepted. What a batch carries, or what is in
-- doubt, stays. Nothing else is left to keep an answer that comes later out: where there is no record, none is
-- written. On a full server as well: it is one of the ways to have it less full.
-- Uses     clock calls record sending runs outbox dead memory gate undone
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  the entry of the audit trail that counts them, or ''
-- ARGV[3]  how many jobs follow, 100 at most
-- ARGV[4]… two for each of these: id, and the letters of its hash, by which a producer's own is remembered; behind
--          them up to 1,000 times the letters that the ids of the customer begin with, with a badge
-- Returns  {jobs forgotten, forgotten by what is remembered alone, in flight, in doubt}
-- Repeated: the same call id gets the same answer.
local call, action, PREFIXES_FROM = ARGV[1], ARGV[2], 4 + 2 * ARGV[3]
local before = recall(call)
if before then return cjson.decode(before) end
local forgotten, by_memory, in_flight, in_doubt = 0, 0, 0, 0
read_gate({})

-- A batch's list is the truth: its answer may be about a job that went on without it.
local carried = {}
for _, batch in ipairs(redis.call('ZRANGE', K.leases, 0, -1)) do
  for _, id in ipairs((carried_by(batch))) do carried[id] = true end
end

local function leave_gate(id)
  if (redis.call('HGET', K.gate, 'witness') or ''):match('^%S+') == id then redis.call('HDEL', K.gate, 'witness') end
end

local function leave_lists(id, fields)
  redis.call('ZREM', K.retry, id)
  redis.call('ZREM', K.revokes, id)
  redis.call('HDEL', K.busy, fields[FIELD.customer])
  local its_run = fields[FIELD.run]
  for _, list in ipairs({K.queue, K.urgent, K.jobs .. its_run, K.later .. its_run}) do redis.call('LREM', list, 0, id) end
  for _, entry in ipairs(redis.call('LRANGE', K.isolate, 0, -1)) do
    if entry:match('%S+$') == id then redis.call('LREM', K.isolate, 0, entry) end
  end
  leave_gate(id)
end

local function leave_run(fields)
  local run, kind = fields[FIELD.run], fields[FIELD.kind]
  if redis.call('EXISTS', K.run .. run) == 0 then return end
  count(run, WORD[fields[FIELD.state]], -1)
  if kind ~= '' then count(run, 'dead:' .. kind, -1) end
  if kind == KIND.invalid then count(run, 'invalid', -1) end
  count(run, 'total', -1)
  count(run, 'forgotten', 1)
end

local function forget_one(id, hash)
  local fields = read(id)
  if not fields then return end
  local is_dead = fields[FIELD.state] == STATE.dead
  if carried[id] or is_being_revoked(id) then
    in_flight = in_flight + 1
  elseif is_dead and fields[FIELD.kind] == KIND.in_doubt and is_listed(id, fields) then
    in_doubt = in_doubt + 1
  else
    if is_dead then unlist(id, fields) end
    leave_run(fields)
    leave_lists(id, fields)
    take_from_batch(id)
    forget_job(id, fields, hash)
    forget_undone(id)
    redis.call('DEL', K.job .. id)
    note_end(id, 'forgotten')
    forgotten = forgotten + 1
  end
end

-- What is remembered without a record. A record that is there is another customer's: fifty bits are the same.
local function forget_remembered(prefix)
  for _, found in ipairs(remembered_with(prefix, ALL)) do
    if #found == PAIR_LETTERS + 8 then -- of a producer's own
      for _, own in ipairs(remembered_with(found:sub(PAIR_LETTERS + 1):lower(), ALL)) do
        if own:sub(21, 20 + PAIR_LETTERS) == prefix then forget_own(own) end
      end
      forget(found)
      by_memory = by_memory + 1
    elseif #found == 2 * PAIR_LETTERS and redis.call('EXISTS', K.job .. found) == 0 then
      forget(found)
      forget_undone(found)
      leave_gate(found)
      by_memory = by_memory + 1
    end
  end
end

for at = 4, PREFIXES_FROM - 1, 2 do forget_one(ARGV[at], ARGV[at + 1]) end
for at = PREFIXES_FROM, #ARGV do forget_remembered(ARGV[at]) end
write_ends()
write_remembered()
audited(action, forgotten + by_memory)
local answer = {forgotten, by_memory, in_flight, in_doubt}
memoize(call, cjson.encode(answer))
return answer
