#!lua flags=no-writes
-- Say of rows which were accepted before, and whose badge and customer were, with another content.
-- Uses     memory record discarded
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  ids of jobs that are made of their content, of 20 letters each, one behind the other
-- ARGV[2]… two for each other row: the id of its job, and HOW: "own:<20 letters>" a producer's own, by its hash;
--          "dead:" of an invalid row. At most 1,000 rows in all
-- Returns  {seen}: one SEEN for each, in this order
-- Repeated: changes nothing.
local ID_LETTERS = 20
local ids, names, found = {}, {}, {}
for at = 1, #ARGV[1], ID_LETTERS do ids[#ids + 1] = ARGV[1]:sub(at, at + ID_LETTERS - 1) end
for at = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[at] end
local hows = (#ARGV - 1) / 2
for n, id in ipairs(ids) do names[n] = K.job .. id end

-- Of most files all rows have a record, or none.
local kept = redis.call('EXISTS', unpack(names))
local function has_record(n) return kept == #ids or kept > 0 and redis.call('EXISTS', names[n]) == 1 end

local function seen(id)
  if #some_accepted(id:sub(1, PAIR_LETTERS)) == 0 then return SEEN.new end
  return is_remembered(id) and SEEN.known or SEEN.similar
end

local function seen_as(how)
  local own = how:match('^own:(.*)')
  return own and #remembered_with(own) > 0 and SEEN.known or SEEN.new
end

local of_content = #ids - hows
for n, id in ipairs(ids) do
  if has_record(n) then
    found[n] = SEEN.known
  elseif n <= of_content then
    found[n] = seen(id)
  else
    found[n] = seen_as(ARGV[1 + 2 * (n - of_content)])
  end
end
return {table.concat(found)}
