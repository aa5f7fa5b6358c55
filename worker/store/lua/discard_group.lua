#!lua flags=allow-oom
-- Take dead letters of a group off the list for good, as discard.lua does. That their records expire, and that what no
-- call may ever have applied is forgotten, costs as much again as all the rest: expire_discarded.lua sees to that later;
-- but where somebody reads what has ended, records expire by their word, and what is to be forgotten is at once.
-- On a full server as well.
-- Uses     clock calls record plain runs outbox dead letters memory
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  how long a record is kept, ms
-- ARGV[3]  the entry of the audit trail that counts them, or ''
-- ARGV[4]  the number of the group
-- ARGV[5]  since when they died, ms    ARGV[6]  until when
-- ARGV[7]  the run that is meant, or ''
-- ARGV[8]  the last letter that was looked at and stays: its id, or ''    ARGV[9]  when it died, ms
-- Returns  {how many were discarded, how many were looked at, the last that stays now: its id, when it died, id, ...}:
--          letters that are meant and were left, since they aren't plain ones, or have ids of a producer's own:
--          discard.lua takes these. Up to 1,000 are looked at
-- Repeated: the same call id gets the same answer.
local call, ttl_ms, group, its_run = ARGV[1], ARGV[2], ARGV[4], ARGV[7]
local before = recall(call)
if before then return cjson.decode(before) end
local ids = letters.behind(group, ARGV[5], ARGV[6], ARGV[8], ARGV[9], 1000)
local discarded, left, by_run, keep_ms = {}, {}, {}, kept_ms(ttl_ms)
local DISCARD, LEAVE, PASS, AT_ONCE = 1, 2, 3, 250

-- What is done with plain letters that are alike.
local counts
local function what_to_do(its)
  if its.state ~= STATE.dead or its.group ~= group or its.kind == KIND.in_doubt then return LEAVE end
  if its_run ~= '' and its.run ~= its_run then return PASS end
  counts = by_run[its.run] or {}
  by_run[its.run], counts[its.kind] = counts, counts[its.kind] or 0
  return DISCARD
end

-- Answers whether nothing more is to be done with it.
local todo
local function discard(id, raw)
  local its, is_alike = many.plain(raw)
  if not its then return false end
  if not is_alike then todo = what_to_do(its) end
  if todo ~= DISCARD or many.has_fingerprint() then return todo == PASS end
  counts[its.kind], discarded[#discarded + 1] = counts[its.kind] + 1, id
  if not keep_ms and its.was_in_doubt == '' then forget(id) end
  note_end(id, 'discarded')
  return true
end

local function is_meant(raw)
  if newer(raw:match('^%d+')) then return false end
  local fields = parse(raw)
  return fields[FIELD.state] == STATE.dead and (its_run == '' or fields[FIELD.run] == its_run)
end

local raws = records_of(ids)
for n, id in ipairs(ids) do
  local raw = raws[n]
  if raw and not discard(id, raw) and is_meant(raw) then left[#left + 1] = id end
end
many.take_out(group, ids, discarded)
local last, died_at = letters.last(group, ids, discarded, ARGV[8], ARGV[9])
for run, counts in pairs(by_run) do
  for kind, by in pairs(counts) do many.count_unlisted(run, kind, by) end
end
for first = 1, keep_ms and #discarded or 0, AT_ONCE do
  local some = table.concat(discarded, ' ', first, math.min(#discarded, first + AT_ONCE - 1))
  redis.call('RPUSH', K.discarded, int(NOW + keep_ms) .. ' ' .. some)
end
write_ends()
write_remembered()
audited(ARGV[3], #discarded)
local answer = {#discarded, #ids, last, died_at, unpack(left)}
memoize(call, cjson.encode(answer))
return answer
