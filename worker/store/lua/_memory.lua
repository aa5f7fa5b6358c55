-- What was accepted is remembered for good: buckets by the first letters of an id hold the rest of it, as
-- sorted sets with score 0, so that they can be searched by prefix. Once there are many, buckets by one letter
-- more take what is new.
local remembered_count = nil

local function has_many()
  remembered_count = remembered_count or tonumber(redis.call('GET', K.remembered) or 0)
  return remembered_count >= MANY
end

local function bucket(id, letters) return K.memory .. id:sub(1, letters), id:sub(letters + 1) end

local function is_remembered(id)
  local few, rest = bucket(id, FEW_LETTERS)
  if redis.call('ZSCORE', few, rest) then return true end
  if not has_many() then return false end
  local many, its_rest = bucket(id, MORE_LETTERS)
  return redis.call('ZSCORE', many, its_rest) ~= false
end

local newly = 0

-- Answers whether it is new.
local function remember(id)
  local many = has_many()
  if many then
    local few, rest = bucket(id, FEW_LETTERS)
    if redis.call('ZSCORE', few, rest) then return false end
  end
  local name, rest = bucket(id, many and MORE_LETTERS or FEW_LETTERS)
  local added = redis.call('ZADD', name, 'NX', 0, rest)
  newly = newly + added
  return added == 1
end

local function forget(id)
  local name, rest = bucket(id, FEW_LETTERS)
  newly = newly - redis.call('ZREM', name, rest)
  if not has_many() then return end
  name, rest = bucket(id, MORE_LETTERS)
  newly = newly - redis.call('ZREM', name, rest)
end

-- What is remembered that begins so, whole; of each kind of bucket at most 100, or ALL, from the first on or another.
local ALL = -1
local function remembered_with(prefix, most, first)
  local found = {}
  for _, letters in ipairs(has_many() and {FEW_LETTERS, MORE_LETTERS} or {FEW_LETTERS}) do
    local name, rest = bucket(prefix, letters)
    for _, one in ipairs(redis.call('ZRANGEBYLEX', name, '[' .. rest, '[' .. rest .. '\255', 'LIMIT', first or 0, most or 100)) do
      found[#found + 1] = prefix:sub(1, letters) .. one
    end
  end
  return found
end

-- A producer's own id, by the letters of its hash, with those of its content; and once more where its badge and
-- customer are looked for, in capitals, so that it is taken for no id.
local function remembered_own(own)
  local found = remembered_with(own:sub(1, 20))[1]
  return found and found:sub(21)
end

local function remember_own(own)
  local name, rest = bucket(own, has_many() and MORE_LETTERS or FEW_LETTERS)
  redis.call('ZADD', name, 'NX', 0, rest)
  remember(own:sub(21, 30) .. own:sub(1, 8):upper())
end

local function forget_own(own)
  for _, letters in ipairs({FEW_LETTERS, MORE_LETTERS}) do
    local name, rest = bucket(own, letters)
    redis.call('ZREM', name, rest)
  end
  forget(own:sub(21, 30) .. own:sub(1, 8):upper())
end

-- The same for a job that has a record; hash: the letters of its id's hash.
local function remember_job(id, fields, hash)
  local content = fields[FIELD.fingerprint]
  if content == '' then remember(id) else remember_own(hash .. content) end
end

local function forget_job(id, fields, hash)
  local content = fields[FIELD.fingerprint]
  if content == '' then forget(id) else forget_own(hash .. content) end
end

local function write_remembered()
  if newly ~= 0 then redis.call('INCRBY', K.remembered, int(newly)) end
end
