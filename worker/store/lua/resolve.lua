#!lua
-- End a job in doubt by a person's word: it was issued after all.
-- KEYS[1]  the org's slot
-- ARGV[1]  job id
-- ARGV[2]  how long its record is kept, ms
-- ARGV[3]  the entry of the audit trail that counts it, or ''
-- Returns  1 if it was in doubt, else 0
-- Repeated: answers 0 and changes nothing.
local id, ttl, action = ARGV[1], ARGV[2], ARGV[3]
local key = K.job .. id
local f = redis.call('HMGET', key, F.state, F.kind, F.run, F.version)
if newer(f[4]) or f[1] ~= S.dead or f[2] ~= 'in_doubt' then return 0 end
if not redis.call('ZSCORE', K.dead .. f[2], id) then return 0 end
exhume(id, f[3], f[2])
redis.call('HSET', key, F.state, S.issued, F.finished_at, int(NOW))
moved(f[3], S.dead, S.issued)
write_counts()
redis.call('PEXPIRE', key, ttl)
audited(action, 1)
return 1
