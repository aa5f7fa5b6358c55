#!lua flags=allow-oom
-- The reader of the outbox has kept its first entries: they go, and the records that are as it kept them expire.
-- On a full server as well.
-- Uses     clock record runs outbox dead
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  the number of the first entry, as it was read: how many had been acknowledged before
-- ARGV[2]  how many entries
-- ARGV[3]  how long their records are kept from now on, ms
-- ARGV[4]… two for each record of them, at most 1,000: id, and the SHA-1 of the record that was kept
-- Returns  1; or 0 if other entries stand first by now
-- Repeated: answers 0 and changes nothing.
local first, entries, ttl_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if (redis.call('GET', K.outbox_read) or '0') ~= first then return 0 end
for at = 4, #ARGV, 2 do
  local id = ARGV[at]
  local raw = redis.call('GET', K.job .. id)
  if raw and redis.sha1hex(raw) == ARGV[at + 1] then
    local fields = parse(raw)
    local state = fields[FIELD.state]
    local over = state == STATE.issued or state == STATE.undone or state == STATE.dead and not is_listed(id, fields)
    if over then redis.call('PEXPIRE', K.job .. id, ttl_ms) end
  end
end
redis.call('LTRIM', K.outbox, entries, -1)
redis.call('SET', K.outbox_read, int(first + entries))
return 1
