#!lua
-- Begin what a message asked for: look after an org. Another message for it may have come first, since it was
-- sent, and has seen all there was to do: then there is nothing to begin.
-- Uses     clock calls
-- KEYS[1]  the messages that nobody has begun, see take_due.lua
-- KEYS[2]  what the caller's id began, for a while
-- ARGV[1]  org    ARGV[2]  the time that take_due gave the message
-- Returns  1: begin; 0: another began since
-- Repeated: the same id gets the same answer.
local org, seen = ARGV[1], tonumber(ARGV[2]) or 0
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
local first = tonumber((redis.call('HGET', KEYS[1], org) or ''):match('^(%d+) '))
if not first or seen < first then return 0 end
redis.call('HDEL', KEYS[1], org)
redis.call('SET', KEYS[2], org, 'EX', CALL_TTL_S)
return 1
