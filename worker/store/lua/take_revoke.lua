#!lua
-- Take the next badge that is to be taken back. It comes up again by itself, should its caller disappear: revoking
-- twice does no harm.
-- Uses     clock record gate
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  the caller's id    ARGV[2]  ms after which it comes up again
-- ARGV[3]  '' the next one; or the id of the one that it took before, whose time begins again
-- ARGV[4]  JSON: {clock}, as in the cfg of the gate
-- Returns  {id, record}, or nothing: none is due, another caller is at it, or the org is paused
-- Repeated: the same caller takes the next, or the same.
local by, lease_ms, again = ARGV[1], tonumber(ARGV[2]), ARGV[3]
read_gate(cjson.decode(ARGV[4]))
if redis.call('HEXISTS', K.gate, 'paused') == 1 or (revoker() or by) ~= by then return false end
local due = again ~= '' and {again} or redis.call('ZRANGEBYSCORE', K.revokes, '-inf', int(T), 'LIMIT', 0, 100)
for _, id in ipairs(due) do
  local raw = redis.call('GET', K.job .. id)
  local fields = raw and not newer(raw:match('^%d+')) and parse(raw)
  if fields and fields[FIELD.state] == STATE.queued then
    local ends = int(T + lease_ms)
    redis.call('SET', K.revoker, by .. ' ' .. id .. ' ' .. ends)
    redis.call('ZADD', K.revokes, ends, id)
    return {id, raw}
  end
  redis.call('ZREM', K.revokes, id) -- cancelled, or ended by an earlier call
end
return false
