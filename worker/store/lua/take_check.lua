#!lua
-- Take the job in doubt that is due to be checked with the vendor, with all others in doubt for the same
-- customer and badge: what the vendor shows can't tell them apart.
-- KEYS[1]  the org's slot
-- ARGV[1]  ms after which they come up again, should the checker die or learn nothing
-- Returns  JSON: {jobs[, witness]} or {}
--          jobs: {id, badge, customer, finished at, absent since} each (false: absent)
--          witness: {id, issued at, badge, customer}
-- Repeated: what was taken a moment ago isn't due; it comes up again by itself.
local again = int(NOW + tonumber(ARGV[1]))

local function read(id)
  local f = redis.call('HMGET', K.job .. id,
    F.state, F.kind, F.badge_meta_id, F.customer_id, F.finished_at, F.absent_since, F.version)
  if newer(f[7]) then return end
  if f[1] == S.dead and f[2] == 'in_doubt' then return {id, f[3], f[4], f[5], f[6]} end
  redis.call('ZREM', K.checks, id)
end

local first
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.checks, '-inf', int(NOW), 'LIMIT', 0, 100)) do
  first = read(id)
  if first then break end
end
if not first then return '{}' end

local jobs = {}
for _, id in ipairs(redis.call('ZRANGE', K.checks, 0, 999)) do
  local job = read(id)
  if job and job[2] == first[2] and job[3] == first[3] then
    redis.call('ZADD', K.checks, again, id)
    jobs[#jobs + 1] = job
  end
end

-- The witness is pinned at the first look, so that the second can ask for just that one.
local pinned = first[5] and first[5]:match('(%S+)$') or (redis.call('HGET', K.gate, 'witness') or ''):match('^(%S+)')
local witness
if pinned then
  local f = redis.call('HMGET', K.job .. pinned, F.state, F.finished_at, F.badge_meta_id, F.customer_id)
  if f[1] == S.issued then witness = {pinned, f[2], f[3], f[4]} end
end
return cjson.encode({jobs = jobs, witness = witness})
