#!lua flags=allow-oom
-- End a job in doubt by a person's word: it was issued after all. On a full server as well.
-- Uses     clock record runs outbox dead memory
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  job id
-- ARGV[2]  how long its record is kept, ms
-- ARGV[3]  the letters of its hash, by which a producer's own is remembered
-- ARGV[4]  the entry of the audit trail that counts it, or ''
-- Returns  1 if it was in doubt, else 0
-- Repeated: answers 0 and changes nothing.
local id, ttl_ms, own, action = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local fields = read(id)
if not fields or fields[FIELD.kind] ~= KIND.in_doubt or not is_listed(id, fields) then return 0 end
exhume(id, fields)
fields[FIELD.state], fields[FIELD.finished_at] = STATE.issued, int(NOW)
write(id, fields, kept_ms(ttl_ms))
note_end(id, 'issued')
moved(fields[FIELD.run], 'dead', 'issued')
remember_job(id, fields, own)
write_ends()
write_remembered()
audited(action, 1)
return 1
