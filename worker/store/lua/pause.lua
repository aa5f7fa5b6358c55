#!lua flags=allow-oom
-- Pause an org: no batch starts until it is resumed; what is in flight is settled. On a full server as well.
-- Uses     clock
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  why: "operator", "auth" or "config"
-- ARGV[2]  the reason in words
-- Returns  1 if it was open, 0 if it was paused already (and stays so for the first reason)
-- Repeated: answers 0 and changes nothing.
if redis.call('HSETNX', K.gate, 'paused', ARGV[1]) == 0 then return 0 end
redis.call('HSET', K.gate, 'pause_reason', ARGV[2], 'paused_since', int(NOW))
return 1
