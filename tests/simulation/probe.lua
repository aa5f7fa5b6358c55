-- What an org holds, in plain words, as JSON. KEYS[1]: its key prefix.
local P = KEYS[1]
local out = {jobs = {}, batches = {}, dead = {}, runs = {}, run_ids = {}, waiting = {}, busy = {}, stats = {}}

local function pairs_of(flat)
  local map = {}
  for n = 1, #flat, 2 do map[flat[n]] = flat[n + 1] end
  return map
end

local sending, groups = pairs_of(redis.call('HGETALL', K.sending)), pairs_of(redis.call('HGETALL', K.groups))
local records, ids = {}, {}
for _, key in ipairs(redis.call('KEYS', P .. '/*')) do
  local name, of = key:sub(#P + 2):match('^(%a+)/?(.*)$')
  if name == 'j' then
    records[#records + 1], ids[#ids + 1] = key, of
  elseif name == 'batch' then
    out.batches[of] = carried_by(of)
  elseif name == 'dead' then
    local kind = (groups[of] or 'no group'):match('^[^' .. SEPARATOR .. ']+')
    local ids = out.dead[kind] or {}
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do ids[#ids + 1] = id end
    out.dead[kind] = ids
  elseif name == 'run' then
    out.runs[of] = pairs_of(redis.call('HGETALL', key))
  elseif name == 'jobs' then
    out.run_ids[of] = redis.call('LRANGE', key, 0, -1)
  elseif name == 'queue' or name == 'urgent' or name == 'later' then
    for _, id in ipairs(redis.call('LRANGE', key, 0, -1)) do out.waiting[#out.waiting + 1] = id end
  elseif name == 'isolate' then
    for _, entry in ipairs(redis.call('LRANGE', key, 0, -1)) do
      out.waiting[#out.waiting + 1] = entry:match('(%S+)$')
    end
  end
end
for n, raw in ipairs(#records > 0 and redis.call('MGET', unpack(records)) or {}) do
  local f = parse(raw)
  local carrier = f[FIELD.state] == STATE.queued and sending[ids[n]]
  out.jobs[ids[n]] = {carrier and 'sending' or WORD[f[FIELD.state]], f[FIELD.run], f[FIELD.kind],
    carrier or f[FIELD.batch], f[FIELD.earned_badge_id], f[FIELD.second_earned], f[FIELD.replayed_as]}
end
for _, id in ipairs(redis.call('ZRANGE', K.revokes, 0, -1)) do out.waiting[#out.waiting + 1] = id end
out.retrying = redis.call('ZRANGE', K.retry, 0, -1)
out.leases = redis.call('ZRANGE', K.leases, 0, -1)
out.busy = pairs_of(redis.call('HGETALL', K.busy))
out.stats = pairs_of(redis.call('HGETALL', K.stats))
return cjson.encode(out)
