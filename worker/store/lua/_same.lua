-- The same request again (IN_DOUBT=same_request): what is in doubt is sent once more as it was, with the same id
-- and bytes, for a vendor that answers a repeated id with its first answer, or refuses it. Only as a whole, and
-- only while every job of it is still in doubt from the last time that it was sent.
-- "request/<batch>" says of one in flight what it was sent by, and when first; "again/<request>" keeps one in doubt,
-- "agains" when it is due. A request has the id of its first batch, its n-th sending the id "<request>.<n>".
local is_again, note_request, keep_request, is_too_old
do
  local SAME_WITHIN_MS = 3600000 -- after it was sent first; a vendor forgets ids some day
  local AGAIN_AFTER_MS, AGAIN_AFTER_AT_MOST_MS = 2000, 300000

  function is_again(batch) return batch:find('.', 1, true) ~= nil end

  function is_too_old(since, at) return at > since + SAME_WITHIN_MS end

  function note_request(batch, how, since)
    redis.call('SET', K.request .. batch, how .. ' ' .. int(since), 'PX', 2 * SAME_WITHIN_MS)
  end

  -- Of a batch in flight: which request it carries, the how many-th time.
  local function sending_of(batch)
    local request, times = batch:match('^(.*)%.(%d+)$')
    return request or batch, tonumber(times or 1)
  end

  -- A batch has ended, and these died in this script: if all of it is in doubt, it is sent again as it was.
  function keep_request(batch, ids, dead)
    local how, since = (redis.call('GET', K.request .. batch) or ''):match('^(%S+) (%d+)$')
    local in_doubt = 0
    for _, one in ipairs(dead) do in_doubt = in_doubt + (one[3] == KIND.in_doubt and 1 or 0) end
    if not how or #ids == 0 or in_doubt < #ids then return end
    local request, times = sending_of(batch)
    local due = T + math.min(AGAIN_AFTER_MS * 3 ^ (times - 1), AGAIN_AFTER_AT_MOST_MS)
    if is_too_old(tonumber(since), due) then return end
    local key = K.again .. request
    redis.call('DEL', key)
    redis.call('RPUSH', key, how, since, times)
    in_chunks(ids, function(...) redis.call('RPUSH', key, ...) end)
    redis.call('PEXPIRE', key, 2 * SAME_WITHIN_MS)
    redis.call('ZADD', K.agains, int(due), request)
  end
end
