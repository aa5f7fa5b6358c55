-- Put before each script: its time is the last argument, and what expires is noted instead of left to the server.
local server, VIRTUAL_US = redis, tonumber(table.remove(ARGV))
local ENDS = '{simulation}ends'

local function ends(key, after_ms)
  if after_ms then
    server.call('ZADD', ENDS, string.format('%.0f', VIRTUAL_US / 1000 + after_ms), key)
  else
    server.call('ZREM', ENDS, key)
  end
end

local replaced = {
  TIME = function() return {math.floor(VIRTUAL_US / 1000000), VIRTUAL_US % 1000000} end,
  PEXPIRE = function(_, key, ms)
    if server.call('EXISTS', key) == 0 then return 0 end
    ends(key, tonumber(ms))
    return 1
  end,
  PERSIST = function(_, key)
    ends(key)
    return 1
  end,
  PEXPIRETIME = function(_, key)
    local at = tonumber(server.call('ZSCORE', ENDS, key) or -1)
    if at >= 0 and at <= VIRTUAL_US / 1000 then server.call('DEL', key) end -- it is swept later
    return server.call('EXISTS', key) == 1 and at or -2
  end,
  DEL = function(_, ...)
    for _, key in ipairs({...}) do ends(key) end
    return server.call('DEL', ...)
  end,
  SET = function(_, key, value, ...)
    local options, kept, after_ms = {...}, {}, nil
    local n = 1
    while n <= #options do
      if options[n] == 'EX' or options[n] == 'PX' then
        after_ms = tonumber(options[n + 1]) * (options[n] == 'EX' and 1000 or 1)
        n = n + 1
      else
        kept[#kept + 1] = options[n]
      end
      n = n + 1
    end
    local answer = server.call('SET', key, value, unpack(kept))
    if answer then ends(key, after_ms) end
    return answer
  end,
}
replaced.MSET = function(_, ...)
  local pairs_ = {...}
  for n = 1, #pairs_, 2 do replaced.SET('SET', pairs_[n], pairs_[n + 1]) end
end
replaced.MSETEX = function(_, number, ...)
  local pairs_ = {...}
  for n = 1, 2 * number, 2 do replaced.SET('SET', pairs_[n], pairs_[n + 1], 'PX', pairs_[#pairs_]) end
end
local redis = setmetatable({
  call = function(command, ...)
    local instead = replaced[command]
    if instead then return instead(command, ...) end
    return server.call(command, ...)
  end,
}, {__index = server})
