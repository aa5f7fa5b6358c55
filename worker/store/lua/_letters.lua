-- Going through a group of dead letters, from call to call: behind the last letter that was looked at and stays there,
-- by its id and when it died. Not by how many lie before it: others take letters out meanwhile.
local letters = {}
do
  -- As members of one score lie in a sorted set.
  local function precedes(one, other)
    for n = 1, math.min(#one, #other) do
      local a, b = one:byte(n), other:byte(n)
      if a ~= b then return a < b end
    end
    return #one < #other
  end

  -- Up to so many that died in a time, behind that one; behind '' the first of them.
  function letters.behind(group, since, until_, id, died_at, most)
    local key = K.dead .. group
    local rank = id ~= '' and redis.call('ZRANK', key, id)
    if rank then
      local before = redis.call('ZCOUNT', key, '-inf', '(' .. since)
      return redis.call('ZRANGE', key, since, until_, 'BYSCORE', 'LIMIT', int(rank + 1 - before), most)
    end
    if id == '' then return redis.call('ZRANGE', key, since, until_, 'BYSCORE', 'LIMIT', 0, most) end
    local passed = 0
    for _, one in ipairs(redis.call('ZRANGE', key, died_at, died_at, 'BYSCORE')) do
      if precedes(one, id) then passed = passed + 1 end
    end
    return redis.call('ZRANGE', key, died_at, until_, 'BYSCORE', 'LIMIT', passed, most)
  end

  -- The last of these that wasn't taken out, and when it died; else the one before them.
  function letters.last(group, ids, taken, id, died_at)
    if #taken == #ids then return id, died_at end
    local is_taken = {}
    for _, one in ipairs(taken) do is_taken[one] = true end
    for n = #ids, 1, -1 do
      if not is_taken[ids[n]] then return ids[n], redis.call('ZSCORE', K.dead .. group, ids[n]) end
    end
  end
end
