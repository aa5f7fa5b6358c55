-- What somebody discarded: its record stays for a while, but for what comes after it never was there, unless a call may
-- have applied it. Where many were discarded at once it is remembered yet, until expire_discarded.lua comes to it.
local function is_discarded(id, fields)
  return fields[FIELD.state] == STATE.dead and fields[FIELD.replayed_as] == ''
    and not redis.call('ZSCORE', K.dead .. fields[FIELD.group], id)
end

local function is_to_be_forgotten(id, fields)
  return fields[FIELD.was_in_doubt] == '' and fields[FIELD.fingerprint] == '' and is_discarded(id, fields)
end

-- Whether another job of the same badge and customer was accepted before.
local function has_met_another(id)
  for _, other in ipairs(remembered_with(id:sub(1, PAIR_LETTERS))) do
    local fields = other ~= id and read(other)
    if other ~= id and not (fields and is_to_be_forgotten(other, fields)) then return true end
  end
  return false
end
