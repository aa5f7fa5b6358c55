-- What a run holds in each state, collected while a script goes on and written once at its end; counters of
-- the org's lifetime; the entry of the audit trail that counts what an action does.
local count, moved, write_counts
do
  local tally = {}

  function count(run, counter, by)
    if run == '' then return end
    local mine = tally[run] or {}
    tally[run] = mine
    mine[counter] = (mine[counter] or 0) + by
  end

  -- A job goes from one state to another, by their words; from is nil for one that is just born.
  function moved(run, from, to)
    if from then count(run, from, -1) end
    count(run, to, 1)
  end

  -- A run that is over is kept as long as a result is; one that has work, or a dead letter that needs a
  -- person, for as long as it has.
  local function set_run_expiry(run, ttl_ms)
    if ttl_ms then
      redis.call('PEXPIRE', K.run .. run, ttl_ms)
      redis.call('PEXPIRE', K.jobs .. run, ttl_ms)
      redis.call('ZADD', K.ended, int(NOW + ttl_ms), run)
    else
      redis.call('PERSIST', K.run .. run)
      redis.call('PERSIST', K.jobs .. run)
      redis.call('ZREM', K.ended, run)
    end
  end

  -- Of all runs together. One that was written before this was counted is counted by its lists.
  local function count_queued(by)
    if redis.call('EXISTS', K.queued) == 1 then return redis.call('INCRBY', K.queued, int(by)) end
    local there = redis.call('LLEN', K.queue) + redis.call('LLEN', K.urgent) + redis.call('LLEN', K.isolate)
    for _, run in ipairs(redis.call('ZRANGE', K.starts, 0, -1)) do there = there + redis.call('LLEN', K.later .. run) end
    redis.call('SET', K.queued, int(there + redis.call('ZCARD', K.revokes)))
  end

  function write_counts()
    local queued = 0
    for run, counters in pairs(tally) do
      local key = K.run .. run
      queued = queued + (counters.queued or 0)
      for counter, by in pairs(counters) do
        if by ~= 0 then redis.call('HINCRBY', key, counter, int(by)) end
      end
      local held = redis.call('HMGET', key, 'queued', 'sending', 'retrying', 'unhandled', 'ttl_ms')
      if (tonumber(held[1]) or 0) + (tonumber(held[2]) or 0) + (tonumber(held[3]) or 0) == 0 then
        redis.call('HSETNX', key, 'finished_at', int(NOW))
        if redis.call('ZREM', K.starts, run) == 1 then redis.call('UNLINK', K.later .. run) end
        set_run_expiry(run, (tonumber(held[4]) or 0) == 0 and held[5])
      elseif redis.call('HDEL', key, 'finished_at') == 1 then
        set_run_expiry(run)
      end
    end
    if queued ~= 0 then count_queued(queued) end
  end
end

-- Where nothing lies in the lanes the number is known: what an older program didn't count, beside this one, is set right.
local function correct_queued()
  local known = redis.call('ZCARD', K.revokes)
  if redis.call('EXISTS', K.starts) == 1 or (tonumber(redis.call('GET', K.queued) or nil) or 0) == known then return end
  redis.call('SET', K.queued, known)
end

-- How many jobs wait to be sent, those of runs that aren't to be sent yet as well; not by the lanes, where ids of jobs
-- that were dealt with otherwise may lie.
local function queued_jobs()
  return math.max(0, tonumber(redis.call('GET', K.queued) or 0) - redis.call('ZCARD', K.revokes))
end

-- A run that was cancelled: a job of it that would wait again is cancelled as well.
local cancelled_runs = {}
local function is_cancelled(run)
  if run == '' then return false end
  if cancelled_runs[run] == nil then
    cancelled_runs[run] = redis.call('HEXISTS', K.run .. run, 'cancelled') == 1
  end
  return cancelled_runs[run]
end

-- Whether some of a cancelled run waits or is sent yet: it would go out with what is replayed.
local half_cancelled = {}
local function is_being_cancelled(run)
  if half_cancelled[run] == nil then
    local said = redis.call('HMGET', K.run .. run, 'cancelled', 'queued', 'retrying', 'sending')
    half_cancelled[run] = said[1] and tonumber(said[2] or 0) + tonumber(said[3] or 0) + tonumber(said[4] or 0) > 0
  end
  return half_cancelled[run]
end

-- A run begins, or takes in more.
local function begin_run(run, ttl_ms)
  redis.call('HSETNX', K.run .. run, 'started_at', int(NOW))
  redis.call('HSET', K.run .. run, 'ttl_ms', ttl_ms)
  redis.call('ZADD', K.runs, 'NX', int(NOW), run)
end

local function stat(counter, by)
  if by ~= 0 then redis.call('HINCRBY', K.stats, counter, int(by)) end
end

-- Count what an action did in its entry of the audit trail, atomically with the action; '' has none.
local function audited(action, by)
  local key = K.audit .. action
  if action ~= '' and redis.call('EXISTS', key) == 1 then redis.call('HINCRBY', key, 'count', int(by)) end
end
