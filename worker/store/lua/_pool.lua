-- The places of the pool, and its seats, each {org, probing}. Those of a worker that is gone hold nobody up.
local function in_pool(pool, seats)
  local places, alive, taken = 0, {}, {}
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', pool, int(NOW), '+inf')) do
    local worker, its = one:match('^(%S+) (%d+)$')
    places, alive[worker] = places + tonumber(its), true
  end
  for _, seat in ipairs(redis.call('ZRANGEBYSCORE', seats, int(NOW), '+inf')) do
    local org, worker, rest = seat:match('^(%S+) (%S+) (.+)$')
    if worker and alive[worker] then taken[#taken + 1] = {org, rest:match(' probing$')} end
  end
  return places, taken
end
