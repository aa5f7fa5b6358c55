#!lua flags=allow-oom
-- Say that a worker is alive. On a full server as well: that nothing is sent then is no reason to start more.
-- Uses     clock
-- KEYS[1]  the pool, or the orgs that have workers of their own
-- ARGV[1]  "worker places", or the org
-- ARGV[2]  for how long it is believed, ms
-- Returns  nothing
-- Repeated: the later time counts.
redis.call('ZADD', KEYS[1], int(NOW + ARGV[2]), ARGV[1])
