-- What a call answered, kept for a while: a client repeats a call whose reply was lost, and gets the same.
local CALL_TTL_S = 900 -- longer than any client repeats a call

local function recall(call) return redis.call('GET', K.call .. call) end

local function memoize(call, answer)
  redis.call('SET', K.call .. call, answer, 'EX', CALL_TTL_S)
  return answer
end
