#!lua
-- Take the job in doubt that is due to be checked with the vendor, with all others in doubt for the same
-- customer and badge: what the vendor shows can't tell them apart.
-- Uses     clock record
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  ms after which they come up again, should the checker die or learn nothing
-- Returns  JSON: {jobs = {{id, badge, customer, died at, absent since}, ...} ('': absent),
--          witness = {id, issued at, badge, customer}}, or {}
-- Repeated: what was taken a moment ago isn't due; it comes up again by itself.
local again = int(NOW + tonumber(ARGV[1]))

local function suspect(id)
  local raw = redis.call('GET', K.job .. id)
  if raw and newer(raw:match('^%d+')) then return end
  local f = raw and parse(raw)
  if f and f[FIELD.state] == STATE.dead and f[FIELD.kind] == KIND.in_doubt then
    return {id, f[FIELD.badge], f[FIELD.customer], f[FIELD.finished_at], f[FIELD.absent_since]}
  end
  redis.call('ZREM', K.checks, id)
end

local first
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.checks, '-inf', int(NOW), 'LIMIT', 0, 100)) do
  first = suspect(id)
  if first then break end
end
if not first then return '{}' end

local jobs = {}
for _, id in ipairs(redis.call('ZRANGE', K.checks, 0, 999)) do
  local job = suspect(id)
  if job and job[2] == first[2] and job[3] == first[3] then
    redis.call('ZADD', K.checks, again, id)
    jobs[#jobs + 1] = job
  end
end

local function issued(id)
  local f = id and read(id)
  if f and f[FIELD.state] == STATE.issued then return {id, f[FIELD.finished_at], f[FIELD.badge], f[FIELD.customer]} end
end

-- The witness is pinned at the first look, so that the second can ask for just that one. If its badge was taken back
-- since, say, the looks begin again.
local witness = issued(first[5]:match('(%S+)$'))
if not witness then
  witness = issued((redis.call('HGET', K.gate, 'witness') or ''):match('^(%S+)'))
  for _, job in ipairs(jobs) do job[5] = '' end
end
return cjson.encode({jobs = jobs, witness = witness})
