-- Runs that aren't to be sent yet: their ids lie in a list of their own, until their time comes.
local starting = {}

-- Whether a run's time is still to come.
local function is_later(run)
  if run == '' then return false end
  if starting[run] == nil then
    local at = redis.call('HGET', K.run .. run, 'starts_at')
    starting[run] = at and (tonumber(at) or NEVER) > NOW or false
  end
  return starting[run]
end

-- Jobs of a run wait there; claim takes them up when their time has come.
local function put_later(run, ids)
  if #ids == 0 then return end
  in_chunks(ids, function(...) redis.call('RPUSH', K.later .. run, ...) end)
  redis.call('ZADD', K.starts, redis.call('HGET', K.run .. run, 'starts_at'), run)
end

-- How many there are of all runs.
local function count_later()
  local found = 0
  for _, run in ipairs(redis.call('ZRANGE', K.starts, 0, -1)) do found = found + redis.call('LLEN', K.later .. run) end
  return found
end
