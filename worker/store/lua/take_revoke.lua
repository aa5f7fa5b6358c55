#!lua
-- Take the next badge that is to be taken back. It comes up again by itself, should its caller disappear: revoking
-- twice does no harm.
-- Uses     clock record
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  the caller's id    ARGV[2]  ms after which it comes up again
-- Returns  {id, record}, or nothing: none is due, another caller is at it, or the org is paused
-- Repeated: the same caller takes the next.
local by, lease_ms = ARGV[1], tonumber(ARGV[2])
if redis.call('HEXISTS', K.gate, 'paused') == 1 then return false end
if (redis.call('GET', K.revoker) or by) ~= by then return false end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.revokes, '-inf', int(NOW), 'LIMIT', 0, 100)) do
  local raw = redis.call('GET', K.job .. id)
  local fields = raw and not newer(raw:match('^%d+')) and parse(raw)
  if fields and fields[FIELD.state] == STATE.queued then
    redis.call('SET', K.revoker, by, 'PX', lease_ms)
    redis.call('ZADD', K.revokes, int(NOW + lease_ms), id)
    return {id, raw}
  end
  redis.call('ZREM', K.revokes, id) -- cancelled, or ended by an earlier call
end
return false
