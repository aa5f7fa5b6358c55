#!lua
-- Write what a check of jobs in doubt found.
-- KEYS[1]  the org's slot
-- ARGV[1]  call id
-- ARGV[2]  JSON: {ids}
-- ARGV[3]  'cleared' certainly not issued: they are queued again, with the attempts they had;
--          'seen'    the vendor has such a badge, which may be an older one: they wait for a person;
--          'absent'  none is shown yet: ask again later
-- ARGV[4]  absent: the witness's id; ARGV[5] absent: when to ask again, ms from now
-- Returns  how many jobs it was true of
-- Repeated: the same call id gets the same answer.
local call, ids, verdict = ARGV[1], cjson.decode(ARGV[2]), ARGV[3]
local before = said(call)
if before then return tonumber(before) end
local done = 0
for _, id in ipairs(ids) do
  local key = K.job .. id
  local f = redis.call('HMGET', key, F.state, F.kind, F.run, F.version)
  local in_doubt = f[1] == S.dead and f[2] == 'in_doubt' and not newer(f[4])
  -- Not if it was discarded or replaced during the check: it is in no index then.
  if in_doubt and redis.call('ZSCORE', K.dead .. f[2], id) then
    done = done + 1
    if verdict == 'absent' then
      redis.call('HSETNX', key, F.absent_since, int(NOW) .. ' ' .. ARGV[4])
      redis.call('ZADD', K.checks, int(NOW + tonumber(ARGV[5])), id)
    elseif verdict == 'seen' then
      redis.call('ZREM', K.checks, id)
      forget_message(id)
      redis.call('HSET', key, F.message, 'the vendor shows such a badge; it may be this one or an older')
    else
      exhume(id, f[3], 'in_doubt')
      redis.call('HSET', key, F.state, S.queued, F.ready_since, int(NOW))
      redis.call('RPUSH', lane(id), id)
      moved(f[3], S.dead, S.queued)
    end
  end
end
write_counts()
return tonumber(say(call, int(done)))
