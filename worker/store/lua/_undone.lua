-- Ids of badges that were issued and revoked since, for good; they lie as what is remembered does.
local function undone_in(id, letters) return K.undone .. id:sub(1, letters), id:sub(letters + 1) end

local function is_undone(id)
  for _, letters in ipairs({FEW_LETTERS, MORE_LETTERS}) do
    local name, rest = undone_in(id, letters)
    if redis.call('ZSCORE', name, rest) then return true end
  end
  return false
end

local function note_undone(id)
  local name, rest = undone_in(id, has_many() and MORE_LETTERS or FEW_LETTERS)
  if not is_undone(id) then redis.call('ZADD', name, 0, rest) end
end

local function forget_undone(id)
  for _, letters in ipairs({FEW_LETTERS, MORE_LETTERS}) do
    local name, rest = undone_in(id, letters)
    redis.call('ZREM', name, rest)
  end
end
