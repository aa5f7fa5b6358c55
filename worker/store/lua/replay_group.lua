#!lua
-- Queue dead letters of a group again as they are, each with a new attempt count.
-- Uses     clock calls record plain runs outbox dead letters later lanes
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  the replay: the entry of the audit trail that counts, and the name of the list of what was queued
-- ARGV[3]  how long this list is kept, ms
-- ARGV[4]  the number of the group
-- ARGV[5]  since when they died, ms    ARGV[6]  until when
-- ARGV[7]  the run that is meant, or ''
-- ARGV[8]  the last letter that was looked at and stays: its id, or ''    ARGV[9]  when it died, ms
-- ARGV[10] how many to look at, at most 1,000
-- Returns  {how many were queued, how many were looked at, the last that stays now: its id, when it died, id, ...}:
--          letters that are meant and were left, since they aren't plain ones: replay.lua takes these
-- Repeated: the same call id gets the same answer.
local call, run, ttl_ms, group, its_run = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[7]
local before = recall(call)
if before then return cjson.decode(before) end
local ids = letters.behind(group, ARGV[5], ARGV[6], ARGV[8], ARGV[9], ARGV[10])
local queued, left, badges, by_run = {}, {}, {}, {}
local ends = {['1'] = {}, [''] = {}}
local QUEUE, LEAVE, PASS = 1, 2, 3

-- A person asked for it: a run that was cancelled goes on.
local function counts_of(its, kind)
  if not by_run[its] then
    redis.call('HDEL', K.run .. its, 'cancelled')
    by_run[its] = {}
  end
  by_run[its][kind] = by_run[its][kind] or 0
  return by_run[its]
end

-- What is done with plain letters that are alike.
local function what_to_do(its)
  if its.state ~= STATE.dead or its.group ~= group then return LEAVE end
  local run, kind = its.run, its.kind
  if kind == KIND.invalid or kind == KIND.in_doubt or later.is(run) then return LEAVE end
  if its_run ~= '' and run ~= its_run then return PASS end
  return is_being_cancelled(run) and LEAVE or QUEUE
end

-- A letter as it lies there; answers whether nothing more is to be done with it.
local todo, counts, of_lane
local function again(id, name, raw)
  local its, is_alike = many.plain(raw)
  if not its then return false end
  if not is_alike then
    todo = what_to_do(its)
    if todo == QUEUE then counts, of_lane = counts_of(its.run, its.kind), ends[its.urgent] end
  end
  if todo ~= QUEUE then return todo == PASS end
  many.write_raw(name, many.as_queued())
  of_lane[#of_lane + 1], queued[#queued + 1] = id, id
  counts[its.kind], badges[many.badge()] = counts[its.kind] + 1, true
  return true
end

local function is_meant(raw)
  if newer(raw:match('^%d+')) then return false end
  local fields = parse(raw)
  return fields[FIELD.state] == STATE.dead and fields[FIELD.kind] ~= KIND.invalid
    and (its_run == '' or fields[FIELD.run] == its_run)
end

local raws, names = records_of(ids)
for n, id in ipairs(ids) do
  local raw = raws[n]
  if raw and not again(id, names[n], raw) and is_meant(raw) then left[#left + 1] = id end
end
many.take_out(group, ids, queued)
local last, died_at = letters.last(group, ids, queued, ARGV[8], ARGV[9])
for its, counts in pairs(by_run) do
  for kind, by in pairs(counts) do
    many.count_unlisted(its, kind, by)
    count(its, 'dead:' .. kind, -by)
    count(its, 'dead', -by)
    count(its, 'queued', by)
  end
end
for badge in pairs(badges) do redis.call('ZREM', K.missing, badge) end
for urgent, of_lane in pairs(ends) do
  if #of_lane > 0 then redis.call('RPUSH', lane(urgent), unpack(of_lane)) end
end
write_ends()
-- These keep their runs; by this list they can be followed, and cancelled, as this replay.
if #queued > 0 then
  redis.call('RPUSH', K.jobs .. run, unpack(queued))
  redis.call('PEXPIRE', K.jobs .. run, ttl_ms)
end
audited(run, #queued)
local answer = {#queued, #ids, last, died_at, unpack(left)}
memoize(call, cjson.encode(answer))
return answer
