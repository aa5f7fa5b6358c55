#!lua flags=no-writes
-- Say what is remembered that begins so: ids; of a producer's own ten letters and eight capitals.
-- Uses     memory record
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]… at most 1,000 beginnings
-- Returns  {what begins with one of them, ...}
-- Repeated: answers the same.
local found = {}
for n = 1, #ARGV do
  for _, one in ipairs(remembered_with(ARGV[n], ALL)) do found[#found + 1] = one end
end
return found
