#!lua flags=allow-oom
-- Take dead letters off the list for good. Their records stay, so that importing them again can't issue them;
-- once a record has expired, what no call may ever have applied can be imported again.
-- On a full server as well: it is one of the ways to have it less full.
-- Uses     clock calls record runs outbox dead memory
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  how long a record is kept, ms
-- ARGV[3]  the entry of the audit trail that counts them, or ''
-- ARGV[4]… two for each of at most 1,000: id, and the letters of its hash, by which a producer's own is remembered
-- Returns  how many were dead letters until now
-- Repeated: the same call id gets the same answer.
local call, ttl_ms, action = ARGV[1], ARGV[2], ARGV[3]
local before = recall(call)
if before then return tonumber(before) end
local discarded, ids, hashes, dead = 0, {}, {}, {}
for at = 4, #ARGV, 2 do ids[#ids + 1], hashes[ARGV[at]] = ARGV[at], ARGV[at + 1] end
local fields_of = reading(ids)
for n, id in ipairs(ids) do
  local fields = fields_of(n)
  if fields and fields[FIELD.state] == STATE.dead then dead[id] = fields end
end
local listed = many.unlist(dead)
for _, id in ipairs(ids) do
  local fields = listed[id]
  if fields then
    listed[id] = nil -- it may be named twice
    if kept_ms(ttl_ms) then redis.call('PEXPIRE', K.job .. id, ttl_ms) end
    note_end(id, 'discarded')
    if fields[FIELD.was_in_doubt] == '' then forget_job(id, fields, hashes[id]) end
    discarded = discarded + 1
  end
end
write_ends()
write_remembered()
audited(action, discarded)
return tonumber(memoize(call, int(discarded)))
