-- The places of the pool, and its seats, each {org, probing}. Those of a dead worker hold nobody up; nor does
-- what is further ahead than anybody sets it: it is from before Redis's clock stepped back.
local LONGEST_ALIVE_MS, LONGEST_SEAT_MS = 60000, 660000
local function in_pool(pool, seats)
  local places, alive, taken = 0, {}, {}
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', pool, int(NOW), int(NOW + LONGEST_ALIVE_MS))) do
    local worker, its = one:match('^(%S+) (%d+)$')
    places, alive[worker] = places + tonumber(its), true
  end
  for _, seat in ipairs(redis.call('ZRANGEBYSCORE', seats, int(NOW), int(NOW + LONGEST_SEAT_MS))) do
    local org, worker, rest = seat:match('^(%S+) (%S+) (.+)$')
    if worker and alive[worker] then taken[#taken + 1] = {org, rest:match(' probing$')} end
  end
  return places, taken
end
