#!lua
-- Replay dead letters: each is queued again with a new attempt count, or takes up life as a new job.
-- KEYS[1]  the org's slot
-- ARGV[1]  call id
-- ARGV[2]  run of the new jobs
-- ARGV[3]  JSON: {{id}, ...} queue again, or {{id, new id, field, value, ...}, ...} as a new job; at most 1,000
-- Returns  JSON: {replayed, duplicates, skipped}; skipped ones were no dead letters any more, or
--          invalid, which only a new job can mend
-- Repeated: the same call id gets the same answer.
local call, run, items = ARGV[1], ARGV[2], cjson.decode(ARGV[3])
local before = said(call)
if before then return before end
local done = {replayed = 0, duplicates = 0, skipped = 0}

local function again(id, its_run, kind)
  exhume(id, its_run, kind)
  redis.call('HSET', K.job .. id, 's', 'q', 'a', 0, 'g', int(NOW))
  redis.call('RPUSH', lane(id), id)
  moved(its_run, 'd', 'q')
end

-- The old record stays as it is, so that importing it again can't issue it; it needs nobody any more.
local function as_new(id, kind, new_id, ...)
  if redis.call('HSETNX', K.job .. new_id, 's', 'q') == 0 then return false end
  redis.call('HSET', K.job .. new_id, 'r', run, 'n', id, 't', int(NOW), 'O', id, ...)
  redis.call('HSET', K.job .. id, 'R', new_id)
  redis.call('ZREM', K.dead .. kind, id)
  redis.call('ZREM', K.checks, id)
  redis.call('RPUSH', lane(new_id), new_id)
  redis.call('RPUSH', K.jobs .. run, new_id)
  moved(run, nil, 'q')
  count(run, 'total', 1)
  return true
end

for _, item in ipairs(items) do
  local id = item[1]
  local state, its_run, kind, badge = unpack(redis.call('HMGET', K.job .. id, 's', 'r', 'k', 'b'))
  local unsendable = kind == 'invalid' and not item[2] -- it holds no badge
  if state ~= 'd' or unsendable or not redis.call('ZSCORE', K.dead .. kind, id) then
    done.skipped = done.skipped + 1
  elseif not item[2] then
    again(id, its_run, kind)
    done.replayed = done.replayed + 1
  elseif as_new(id, kind, unpack(item, 2)) then
    done.replayed = done.replayed + 1
  else
    done.duplicates = done.duplicates + 1
  end
  if badge then redis.call('ZREM', K.missing, badge) end
end
if next(tally) and tally[run] then
  redis.call('HSETNX', K.run .. run, 'started_at', int(NOW))
  redis.call('ZADD', K.runs, 'NX', int(NOW), run)
end
write_counts()
return say(call, cjson.encode(done))
