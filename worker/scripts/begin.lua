#!lua
-- Begin what a message asked for: look after an org. Another message for it may have come first, since it was
-- sent, and has seen all there was to do: then there is nothing to begin.
-- KEYS[1]  the orgs that were asked for, see take_due.lua
-- ARGV[1]  org    ARGV[2]  the time that take_due gave the message    ARGV[3]  id, made by the caller
-- Returns  1: begin; 0: another began since
-- Repeated: the same id gets the same answer.
local org, seen, mine = ARGV[1], tonumber(ARGV[2]) or 0, 'begun ' .. ARGV[3]
local asked = redis.call('HGET', KEYS[1], org) or ''
if asked == mine then return 1 end
local first = tonumber(asked:match('^(%d+) '))
if not first or seen < first then return 0 end
redis.call('HSET', KEYS[1], org, mine, '', int(first) .. ' ' .. int(NOW))
return 1
