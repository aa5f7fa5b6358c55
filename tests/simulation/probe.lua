-- What an org holds, in plain words, as JSON. KEYS[1]: its key prefix.
local P = KEYS[1]
local STATES = {}
for name, letter in pairs(S) do STATES[letter] = name end
local out = {jobs = {}, batches = {}, dead = {}, runs = {}, run_ids = {}, waiting = {}, busy = {}, stats = {}}

local function pairs_of(flat)
  local map = {}
  for n = 1, #flat, 2 do map[flat[n]] = flat[n + 1] end
  return map
end

for _, key in ipairs(redis.call('KEYS', P .. ':*')) do
  local name, of = key:sub(#P + 2):match('^(%a+):?(.*)$')
  if name == 'j' then
    local f = redis.call('HMGET', key, F.state, F.run, F.kind, F.batch,
      F.earned_badge_id, F.second_earned_badge_id, F.replayed_as)
    out.jobs[of] = {STATES[f[1]], f[2], f[3] or '', f[4] or '', f[5] or '', f[6] or '', f[7] or ''}
  elseif name == 'batch' then
    out.batches[of] = redis.call('LRANGE', key, 2, -1)
  elseif name == 'dead' then
    out.dead[of] = redis.call('ZRANGE', key, 0, -1)
  elseif name == 'run' then
    out.runs[of] = pairs_of(redis.call('HGETALL', key))
  elseif name == 'jobs' then
    out.run_ids[of] = redis.call('LRANGE', key, 0, -1)
  elseif name == 'queue' or name == 'urgent' then
    for _, id in ipairs(redis.call('LRANGE', key, 0, -1)) do out.waiting[#out.waiting + 1] = id end
  elseif name == 'isolate' then
    for _, entry in ipairs(redis.call('LRANGE', key, 0, -1)) do
      out.waiting[#out.waiting + 1] = entry:match('(%S+)$')
    end
  end
end
out.retrying = redis.call('ZRANGE', P .. ':retry', 0, -1)
out.leases = redis.call('ZRANGE', P .. ':leases', 0, -1)
out.busy = pairs_of(redis.call('HGETALL', P .. ':busy'))
out.stats = pairs_of(redis.call('HGETALL', P .. ':stats'))
return cjson.encode(out)
