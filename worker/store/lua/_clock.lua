-- The time, as the server has it, and how numbers are written.
local time = redis.call('TIME')
local NOW_US = time[1] * 1000000 + time[2]
local NOW = math.floor(NOW_US / 1000)
local NEVER = math.huge

-- tostring() loses digits of large numbers.
local function int(n) return string.format('%.0f', n) end
local NOW_TEXT = int(NOW)

-- A reply has no infinity: "never" is -1.
local function instant(at) return at == NEVER and -1 or at end

-- unpack() fails on thousands of values.
local function in_chunks(values, call)
  for first = 1, #values, 1000 do call(unpack(values, first, math.min(#values, first + 999))) end
end
