#!lua flags=allow-oom
-- Take dead letters off the list for good. Their records stay, so that importing them again can't issue them.
-- On a full server as well: it is one of the ways to have it less full.
-- KEYS[1]  the org's slot
-- ARGV[1]  call id
-- ARGV[2]  JSON: {ids}, at most 1,000
-- ARGV[3]  how long a record is kept, ms
-- ARGV[4]  the entry of the audit trail that counts them, or ''
-- Returns  how many were dead letters until now
-- Repeated: the same call id gets the same answer.
local call, ids, ttl, action = ARGV[1], cjson.decode(ARGV[2]), ARGV[3], ARGV[4]
local before = said(call)
if before then return tonumber(before) end
local discarded = 0
for _, id in ipairs(ids) do
  local key = K.job .. id
  local f = redis.call('HMGET', key, F.state, F.kind, F.run, F.version)
  if f[1] == S.dead and not newer(f[4]) and unlist(id, f[3], f[2]) then
    redis.call('PEXPIRE', key, ttl)
    discarded = discarded + 1
  end
end
write_counts()
audited(action, discarded)
return tonumber(say(call, int(discarded)))
