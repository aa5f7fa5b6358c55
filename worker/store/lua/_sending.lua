-- Which batch carries a job. The list of a batch says it, in one string: its slot, us, and its number in the
-- ring, then id and customer of each job; the hash "sending" is its inverse, so that anybody can ask for a job.
-- An entry whose batch has no list is void.
local function carriers(ids)
  return #ids > 0 and redis.call('HMGET', K.sending, unpack(ids)) or {}
end

local function is_live(batch) return batch and redis.call('EXISTS', K.batch .. batch) == 1 end

local function carried_by(batch)
  local list, ids, customers = redis.call('GET', K.batch .. batch) or '', {}, {}
  local slot, jobs = list:match('^(%d+) %d+(.*)')
  for id, customer in (jobs or ''):gmatch(SEPARATOR .. '([^' .. SEPARATOR .. ']*)' .. SEPARATOR .. '([^' .. SEPARATOR .. ']*)') do
    ids[#ids + 1], customers[#customers + 1] = id, customer
  end
  return ids, customers, slot
end

-- A batch takes these jobs, {id, customer} each, at its slot, us, with that number in the ring.
local function carry(batch, slot, number, jobs)
  local list, of_ids, of_customers = {int(slot) .. ' ' .. number}, {}, {}
  for n, job in ipairs(jobs) do
    list[2 * n], list[2 * n + 1] = job.id, job.customer
    of_ids[2 * n - 1], of_ids[2 * n] = job.id, batch
    of_customers[2 * n - 1], of_customers[2 * n] = job.customer, batch
  end
  redis.call('SET', K.batch .. batch, table.concat(list, SEPARATOR))
  in_chunks(of_ids, function(...) redis.call('HSET', K.sending, ...) end)
  in_chunks(of_customers, function(...) redis.call('HSET', K.busy, ...) end)
end

-- A batch is in flight no more: its jobs and their customers are free. Only what is still its own is freed.
local function release_batch(batch, ids, customers)
  local gone = {}
  for n, holder in ipairs(carriers(ids)) do
    if holder == batch then gone[#gone + 1] = ids[n] end
  end
  if #gone > 0 then redis.call('HDEL', K.sending, unpack(gone)) end
  gone = {}
  for n, holder in ipairs(#customers > 0 and redis.call('HMGET', K.busy, unpack(customers)) or {}) do
    if holder == batch then gone[#gone + 1] = customers[n] end
  end
  if #gone > 0 then redis.call('HDEL', K.busy, unpack(gone)) end
  redis.call('DEL', K.batch .. batch, K.request .. batch)
  redis.call('ZREM', K.leases, batch)
  redis.call('ZREM', K.inflight, batch)
end

-- A job that changes while a batch carries it is that batch's no more: it will settle it the careful way.
local function take_from_batch(id) redis.call('HDEL', K.sending, id) end
