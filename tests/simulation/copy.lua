#!lua
-- Copy every key into another database. ARGV[1]: which.
for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('COPY', key, key, 'DB', ARGV[1]) end
return 1
