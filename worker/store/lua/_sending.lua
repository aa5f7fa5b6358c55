-- Which batch carries a job. The list of a batch says it, in one string: its slot, us, and its number in the
-- ring, then the id of each job; the hash "sending" is its inverse, so that anybody can ask for a job. "busy" says
-- which batch a customer is in. In both, an entry whose batch has no list is void; "busy" keeps such for a while.
local function carriers(ids)
  return #ids > 0 and redis.call('HMGET', K.sending, unpack(ids)) or {}
end

local function is_live(batch) return batch and redis.call('EXISTS', K.batch .. batch) == 1 end

-- The ids that a batch carries, and its slot; expected: these ids, if the caller has some at hand that may be them.
local function carried_by(batch, expected)
  local slot, list = (redis.call('GET', K.batch .. batch) or ''):match('^(%d+) %d+(.*)')
  if expected and list == SEPARATOR .. table.concat(expected, SEPARATOR) then return expected, slot end
  local ids = {}
  for id in (list or ''):gmatch(SEPARATOR .. '([^' .. SEPARATOR .. ']*)') do ids[#ids + 1] = id end
  return ids, slot
end

-- Of those that are carried by a batch by its list, those that still are.
local function still_own(batch, ids, holders)
  local own = {}
  for n, id in ipairs(ids) do
    if holders[n] == batch then own[#own + 1] = id end
  end
  return own
end

local SPARE_BUSY = 1000

-- Once most entries are void, only those of batches in flight stay.
local function set_busy(of_customers)
  in_chunks(of_customers, function(...) redis.call('HSET', K.busy, ...) end)
  if redis.call('HLEN', K.busy) <= SPARE_BUSY + 2 * redis.call('HLEN', K.sending) then return end
  redis.call('DEL', K.busy)
  for _, batch in ipairs(redis.call('ZRANGE', K.leases, 0, -1)) do
    local entries = {}
    for _, raw in ipairs(records_of((carried_by(batch)))) do
      local _, _, _, _, _, customer = head(raw or '')
      if customer then entries[#entries + 1], entries[#entries + 2] = customer, batch end
    end
    in_chunks(entries, function(...) redis.call('HSET', K.busy, ...) end)
  end
end

-- A batch takes these jobs, {id, customer} each, at its slot, us, with that number in the ring.
local function carry(batch, slot, number, jobs)
  local list, of_ids, of_customers = {int(slot) .. ' ' .. number}, {}, {}
  for n, job in ipairs(jobs) do
    list[n + 1] = job.id
    of_ids[2 * n - 1], of_ids[2 * n] = job.id, batch
    of_customers[2 * n - 1], of_customers[2 * n] = job.customer, batch
  end
  redis.call('SET', K.batch .. batch, table.concat(list, SEPARATOR))
  in_chunks(of_ids, function(...) redis.call('HSET', K.sending, ...) end)
  set_busy(of_customers)
end

-- A batch has left flight: the jobs that are still its own are free, and so are its customers.
local function release_batch(batch, own)
  if #own > 0 then redis.call('HDEL', K.sending, unpack(own)) end
  redis.call('DEL', K.batch .. batch, K.request .. batch)
  redis.call('ZREM', K.leases, batch)
  redis.call('ZREM', K.inflight, batch)
  if redis.call('EXISTS', K.leases) == 0 then redis.call('DEL', K.busy) end
end

-- A job that changes while a batch carries it leaves that batch, which will settle it the careful way.
local function take_from_batch(id) redis.call('HDEL', K.sending, id) end
