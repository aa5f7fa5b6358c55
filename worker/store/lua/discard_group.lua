#!lua flags=allow-oom
-- Take dead letters of a group off the list for good, as discard.lua does.
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

local function discard(id, name, raw)
  local its = many.plain(raw)
  if not its or its.state ~= STATE.dead or its.group ~= group then return false end
  local run, kind = its.run, its.kind
  if kind == KIND.in_doubt or many.has_fingerprint() then return false end
  if its_run ~= '' and run ~= its_run then return true end
  if keep_ms then redis.call('PEXPIRE', name, keep_ms) end
  if its.was_in_doubt == '' then forget(id) end
  note_end(id, 'discarded')
  local counts = by_run[run] or {}
  by_run[run], counts[kind] = counts, (counts[kind] or 0) + 1
  discarded[#discarded + 1] = id
  return true
end

local function is_meant(raw)
  if newer(raw:match('^%d+')) then return false end
  local fields = parse(raw)
  return fields[FIELD.state] == STATE.dead and (its_run == '' or fields[FIELD.run] == its_run)
end

local raws, names = records_of(ids)
for n, id in ipairs(ids) do
  local raw = raws[n]
  if raw and not discard(id, names[n], raw) and is_meant(raw) then left[#left + 1] = id end
end
many.take_out(group, ids, discarded)
local last, died_at = letters.last(group, ids, discarded, ARGV[8], ARGV[9])
for run, counts in pairs(by_run) do
  for kind, by in pairs(counts) do many.count_unlisted(run, kind, by) end
end
write_ends()
write_remembered()
audited(ARGV[3], #discarded)
local answer = {#discarded, #ids, last, died_at, unpack(left)}
memoize(call, cjson.encode(answer))
return answer
