#!lua flags=no-writes
-- Say of rows which were accepted before, and whose badge and customer were, with another content.
-- Uses     memory record
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]… two for each of at most 1,000 rows: the id of its job; and HOW: "" the id is of its content,
--          "own:<20 letters>" a producer's own, by its hash; "dead:" of an invalid row
-- Returns  {seen}: one SEEN for each
-- Repeated: changes nothing.
local function seen(id, how)
  if redis.call('EXISTS', K.job .. id) == 1 then return SEEN.known end
  if how ~= '' then
    local own = how:match('^own:(.*)')
    return own and #remembered_with(own) > 0 and SEEN.known or SEEN.new
  end
  if #remembered_with(id:sub(1, PAIR_LETTERS)) == 0 then return SEEN.new end
  return is_remembered(id) and SEEN.known or SEEN.similar
end

local found = {}
for at = 1, #ARGV, 2 do found[#found + 1] = seen(ARGV[at], ARGV[at + 1]) end
return {table.concat(found)}
