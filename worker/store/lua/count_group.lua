#!lua flags=no-writes
-- Count dead letters of a group that are of a run.
-- Uses     clock record plain
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  the number of the group
-- ARGV[2]  since when they died, ms    ARGV[3]  until when
-- ARGV[4]  the run
-- ARGV[5]  how many at its head to pass over; up to 1,000 are looked at
-- Returns  {how many were looked at, how many are of the run[, the first of them, when it died, when the last died]}
-- Repeated: answers the same.
local letters = redis.call(
  'ZRANGE', K.dead .. ARGV[1], ARGV[2], ARGV[3], 'BYSCORE', 'LIMIT', ARGV[5], 1000, 'WITHSCORES')
local ids, count, first, last = {}, 0, nil, nil
for at = 1, #letters, 2 do ids[#ids + 1] = letters[at] end

local function run_of(raw)
  local its = many.plain(raw)
  if its then return its.run end
  return not newer(raw:match('^%d+')) and parse(raw)[FIELD.run]
end

for n, raw in ipairs(records_of(ids)) do
  if raw and run_of(raw) == ARGV[4] then
    first, last, count = first or n, n, count + 1
  end
end
if not first then return {#ids, 0} end
return {#ids, count, ids[first], letters[2 * first], letters[2 * last]}
