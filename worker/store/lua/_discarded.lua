-- What somebody discarded: its record stays for a while, but for what comes after it never was there, unless a call may
-- have applied it. Where many were discarded at once it is remembered yet, until expire_discarded.lua comes to it.
local function is_discarded(id, fields)
  return fields[FIELD.state] == STATE.dead and fields[FIELD.replayed_as] == ''
    and not redis.call('ZSCORE', K.dead .. fields[FIELD.group], id)
end

local function is_to_be_forgotten(id, fields)
  return fields[FIELD.was_in_doubt] == '' and fields[FIELD.fingerprint] == '' and is_discarded(id, fields)
end

local some_accepted, has_met_another
do
  local ENOUGH, AT_ONCE = 2, 100
  local is_waiting, met = nil, {}

  -- Two that were accepted of a badge and customer, if there are as many, none of them one that is to be forgotten.
  -- Where some are, it is looked for once a call: what is accepted then is one of the two, or isn't needed.
  function some_accepted(pair)
    if is_waiting == nil then is_waiting = redis.call('EXISTS', K.discarded) == 1 end
    if not is_waiting then return remembered_with(pair, ENOUGH) end
    if met[pair] then return met[pair] end
    local found, first = {}, 0
    repeat
      local ids = remembered_with(pair, AT_ONCE, first)
      local fields_of = reading(ids)
      for n, id in ipairs(ids) do
        local fields = fields_of(n)
        if not (fields and is_to_be_forgotten(id, fields)) then found[#found + 1] = id end
        if #found >= ENOUGH then break end
      end
      first = first + AT_ONCE
    until #ids == 0 or #found >= ENOUGH
    met[pair] = found
    return found
  end

  -- Whether another job of the same badge and customer was accepted before.
  function has_met_another(id)
    for _, other in ipairs(some_accepted(id:sub(1, PAIR_LETTERS))) do
      if other ~= id then return true end
    end
    return false
  end
end
