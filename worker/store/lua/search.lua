#!lua flags=no-writes
-- Look for a text in the records of a run: some of its jobs, in the order they came.
-- Uses     clock record
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  run    ARGV[2]  the first place, from 0    ARGV[3]  how many at most, 1,000
-- ARGV[4]  the text, as it lies in a record
-- Returns  {how many there were to look at, id, ...}: of those whose record has it
-- Repeated: answers the same.
local ids = redis.call('LRANGE', K.jobs .. ARGV[1], ARGV[2], ARGV[2] + ARGV[3] - 1)
local found = {#ids}
for n, raw in ipairs(records_of(ids)) do
  if raw and raw:find(ARGV[4], 1, true) then found[#found + 1] = ids[n] end
end
return found
