-- Runs that aren't to be sent yet: their ids lie in a list of their own, until their time comes. In a table, since
-- a script has no more than 200 names.
local later = {}
do
  local found = {}

  -- Whether a run's time is still to come.
  function later.is(run)
    if run == '' then return false end
    if found[run] == nil then
      local at = redis.call('HGET', K.run .. run, 'starts_at')
      found[run] = at and (tonumber(at) or NEVER) > NOW or false
    end
    return found[run]
  end
end

-- Jobs of a run wait there; claim takes them up when their time has come.
function later.put(run, ids)
  if #ids == 0 then return end
  in_chunks(ids, function(...) redis.call('RPUSH', K.later .. run, ...) end)
  redis.call('ZADD', K.starts, redis.call('HGET', K.run .. run, 'starts_at'), run)
end

-- How many of a run wait there; ids of some that were cancelled since may lie among them.
function later.size(run)
  return math.min(redis.call('LLEN', K.later .. run), tonumber(redis.call('HGET', K.run .. run, 'queued') or 0))
end

-- How many there are of all runs.
function later.count()
  local count = 0
  for _, run in ipairs(redis.call('ZRANGE', K.starts, 0, -1)) do count = count + later.size(run) end
  return count
end
