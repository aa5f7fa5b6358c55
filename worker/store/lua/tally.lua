#!lua flags=no-writes
-- Count some jobs of a run, in the order they came, by state, kind, code and badge.
-- Uses     clock record sending
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  run    ARGV[2]  the first place, from 0    ARGV[3]  how many at most, 1,000
-- Returns  {how many there were to look at, "state kind code badge", how many, ...}: the four are apart as the
--          fields of a record are
-- Repeated: answers the same.
local ids = redis.call('LRANGE', K.jobs .. ARGV[1], ARGV[2], ARGV[2] + ARGV[3] - 1)
local holders, counts = carriers(ids), {}
for n, raw in ipairs(records_of(ids)) do
  if raw and not newer(raw:match('^%d+')) then
    local fields = parse(raw)
    local word = WORD[fields[FIELD.state]]
    if word == 'queued' and holders[n] then word = 'sending' end
    local dead = word == 'dead'
    local code, badge = fields[FIELD.code], fields[FIELD.badge]
    if word == 'issued' or word == 'undone' then code = '' end
    local name = table.concat({word, dead and fields[FIELD.kind] or '', code, badge}, SEPARATOR)
    counts[name] = (counts[name] or 0) + 1
  end
end
local told = {#ids}
for name, count in pairs(counts) do
  told[#told + 1] = name
  told[#told + 1] = count
end
return told
