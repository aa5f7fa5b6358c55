#!lua
-- Replay dead letters: each is queued again with a new attempt count, or takes up life as a new job.
-- KEYS[1]  the org's slot
-- ARGV[1]  call id
-- ARGV[2]  the replay: the run of the new jobs, and the entry of the audit trail that counts; '' has neither
-- ARGV[3]  JSON: {{id}, ...} queue again, or as a new job {{id, new id, row, urgent, field, value, ...}, ...}, at
--          most 1,000; row: where it comes from; urgent: 1 if it is urgent though its dead letter was not
-- ARGV[4]  how long results, and the list of what it queued again, are kept, ms
-- Returns  JSON: {replayed, duplicates, skipped}; skipped ones were no dead letters any more, or
--          invalid, which only a new job can mend
-- Repeated: the same call id gets the same answer.
local call, run, items = ARGV[1], ARGV[2], cjson.decode(ARGV[3])
local before = said(call)
if before then return before end
local done = {replayed = 0, duplicates = 0, skipped = 0}
local queued_again, new_ids, badges = {}, {}, {}
local ready = {[K.urgent] = {}, [K.queue] = {}} -- new ids by lane

local function again(id, its_run, kind)
  exhume(id, its_run, kind)
  redis.call('HSET', K.job .. id, F.state, S.queued, F.attempts, 0, F.ready_since, int(NOW))
  redis.call('RPUSH', lane(id), id)
  moved(its_run, S.dead, S.queued)
  queued_again[#queued_again + 1] = id
end

-- The old record stays as it is, as long as a result, so that importing it again can't issue it.
local function as_new(id, its_run, kind, new_id, row, urgent, ...)
  if redis.call('HSETNX', K.job .. new_id, F.state, S.queued) == 0 then return false end
  redis.call('HSET', K.job .. new_id, F.run, run, F.row, row, F.enqueued_at, int(NOW), F.replay_of, id, ...)
  if urgent == '1' or lane(id) == K.urgent then redis.call('HSET', K.job .. new_id, F.urgent, 1) end
  redis.call('HSET', K.job .. id, F.replayed_as, new_id)
  redis.call('PEXPIRE', K.job .. id, ARGV[4])
  unlist(id, its_run, kind)
  new_ids[#new_ids + 1] = new_id
  table.insert(ready[lane(new_id)], new_id)
  moved(run, nil, S.queued)
  count(run, 'total', 1)
  return true
end

for _, item in ipairs(items) do
  local id = item[1]
  local f = redis.call('HMGET', K.job .. id, F.state, F.run, F.kind, F.badge_meta_id, F.version)
  local state, its_run, kind, badge = unpack(f)
  local unsendable = kind == 'invalid' and not item[2] -- it holds no badge
  if newer(f[5]) or state ~= S.dead or unsendable or not redis.call('ZSCORE', K.dead .. kind, id) then
    done.skipped = done.skipped + 1
  elseif not item[2] then
    again(id, its_run, kind)
    done.replayed = done.replayed + 1
  elseif as_new(id, its_run, kind, unpack(item, 2)) then
    done.replayed = done.replayed + 1
  else
    done.duplicates = done.duplicates + 1
  end
  if badge then badges[badge] = true end
end
for badge in pairs(badges) do redis.call('ZREM', K.missing, badge) end
if #new_ids > 0 then
  for list, ids in pairs(ready) do
    if #ids > 0 then redis.call('RPUSH', list, unpack(ids)) end
  end
  redis.call('RPUSH', K.jobs .. run, unpack(new_ids))
end
if next(tally) and tally[run] then
  redis.call('HSETNX', K.run .. run, 'started_at', int(NOW))
  redis.call('HSET', K.run .. run, 'ttl_ms', ARGV[4])
  redis.call('ZADD', K.runs, 'NX', int(NOW), run)
end
write_counts()
-- These keep their runs; by this list they can be followed, and cancelled, as this replay.
if run ~= '' and #queued_again > 0 then
  redis.call('RPUSH', K.jobs .. run, unpack(queued_again))
  redis.call('PEXPIRE', K.jobs .. run, ARGV[4])
end
audited(run, done.replayed)
return say(call, cjson.encode(done))
