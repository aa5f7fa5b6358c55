#!lua flags=allow-oom
-- End jobs in doubt by a person's word: they were issued after all. On a full server as well.
-- Uses     clock calls record runs outbox dead memory
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  how long their records are kept, ms
-- ARGV[3]  the entry of the audit trail that counts them, or ''
-- ARGV[4]… two for each of at most 1,000: id, and the letters of its hash, by which a producer's own is remembered
-- Returns  how many were in doubt
-- Repeated: the same call id gets the same answer.
local call, ttl_ms, action = ARGV[1], ARGV[2], ARGV[3]
local before = recall(call)
if before then return tonumber(before) end
local resolved = 0
for at = 4, #ARGV, 2 do
  local id = ARGV[at]
  local fields = read(id)
  if fields and fields[FIELD.kind] == KIND.in_doubt and is_listed(id, fields) then
    exhume(id, fields)
    fields[FIELD.state], fields[FIELD.finished_at] = STATE.issued, int(NOW)
    write(id, fields, kept_ms(ttl_ms))
    note_end(id, 'issued')
    moved(fields[FIELD.run], 'dead', 'issued')
    remember_job(id, fields, ARGV[at + 1])
    resolved = resolved + 1
  end
end
write_ends()
write_remembered()
audited(action, resolved)
return tonumber(memoize(call, int(resolved)))
