#!lua flags=allow-oom
-- Cancel jobs that wait: each becomes a dead letter, cancelled; or in doubt again, where an earlier call may have
-- applied it. What is being sent is left to be settled; if
-- the run itself is cancelled, what would wait again is cancelled then, and claim takes nothing of it any more.
-- Without ids, up to 5,000 ids of dead jobs are taken off each end of each lane: what is left there counts what
-- waits.
-- On a full server as well.
-- Uses     clock calls record plain sending runs outbox dead later lanes gate
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  the entry of the audit trail that counts them, or ''
-- ARGV[3]  the run that is cancelled as a whole, or ''
-- ARGV[4]  '' the ids follow, at most 1,000; or the place in that run, from 0, of the first of 1,000
-- ARGV[5]… ids
-- Returns  how many were cancelled
-- Repeated: the same call id gets the same answer.
local call, action, run = ARGV[1], ARGV[2], ARGV[3]
local before = recall(call)
if before then return tonumber(before) end
if run ~= '' and redis.call('EXISTS', K.run .. run) == 1 then redis.call('HSETNX', K.run .. run, 'cancelled', action) end
local ids, cancelled = {unpack(ARGV, 5)}, 0
read_gate({})
if ARGV[4] ~= '' then ids = redis.call('LRANGE', K.jobs .. run, ARGV[4], ARGV[4] + 999) end
local is_sending = redis.call('EXISTS', K.sending) == 1
local holders, gone = is_sending and carriers(ids) or {}, {}
local raws, names = records_of(ids)

-- Those of a run by their badge, where they have plain records and wait in a lane.
local by_run = {}
local function alike(its)
  if its.state ~= STATE.queued or its.code ~= '' or its.was_in_doubt ~= '' then return nil end
  by_run[its.run] = by_run[its.run] or {}
  return by_run[its.run]
end

-- Answers whether it is one of these.
local by_badge
local function cancel_plain(id, name, raw)
  local its, is_alike = many.plain(raw)
  if its and not is_alike then by_badge = alike(its) end
  if not its or not by_badge then return false end
  local badge = many.badge()
  local those = by_badge[badge]
  if not those then
    those = many.those_of(its.run, 'queued', KIND.cancelled, 'cancelled', badge)
    those.why = table.concat({KIND.cancelled, 'cancelled', those.group, ''}, SEPARATOR)
    by_badge[badge] = those
  end
  many.write_raw(name, many.as_dead(those.why))
  many.bury_with(those, id)
  return true
end

-- Its id may stay in the middle of a lane: whatever pops it looks at the record.
local function cancel(id, name, raw)
  if cancel_plain(id, name, raw) then return true end
  if newer(raw:match('^%d+')) then return false end
  local fields = parse(raw)
  local state = fields[FIELD.state]
  local waits = state == STATE.queued or state == STATE.retrying
  if not waits or is_being_revoked(id) then return false end
  if state == STATE.retrying then redis.call('ZREM', K.retry, id) end
  if fields[FIELD.job_kind] == REVOKE then redis.call('ZREM', K.revokes, id) end
  set_cancelled(fields)
  many.bury(id, fields, WORD[state])
  return true
end

for n, id in ipairs(ids) do
  local raw = gone[id] == nil and raws[n]
  gone[id] = false
  if raw and not (holders[n] and is_live(holders[n])) and cancel(id, names[n], raw) then
    cancelled, gone[id] = cancelled + 1, true
  end
end

-- Those that lie together at an end of a lane, as the jobs of a run do, are taken off it.
local function drop(list, ids_there, from, step)
  local stale = 0
  while gone[ids_there[from + step * stale]] do stale = stale + 1 end
  if step > 0 then redis.call('LTRIM', list, stale, -1) else redis.call('LTRIM', list, 0, -stale - 1) end
end
for _, list in ipairs(cancelled > 0 and {K.queue, K.urgent} or {}) do
  if gone[redis.call('LINDEX', list, -1)] then
    local last = redis.call('LRANGE', list, -cancelled, -1)
    drop(list, last, #last, -1)
  elseif gone[redis.call('LINDEX', list, 0)] then
    drop(list, redis.call('LRANGE', list, 0, cancelled - 1), 1, 1)
  end
end
for _, list in ipairs(#ids == 0 and {K.urgent, K.queue} or {}) do
  ready_since(list, 0, 'LPOP', 5000)
  ready_since(list, -1, 'RPOP', 5000)
end
write_ends()
audited(action, cancelled)
return tonumber(memoize(call, int(cancelled)))
