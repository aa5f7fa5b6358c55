#!lua flags=allow-oom
-- Say who reads what has ended in this org (a ledger), or that nobody does any more. From then on records of what
-- has ended expire once their reader has acknowledged them. On a full server as well.
-- Uses     clock
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  the reader's name, or '' for none
-- Returns  1 if it is so now; 0 if there is another reader, or, for none, if something wasn't acknowledged yet
-- Repeated: changes nothing more, and answers the same.
local reader, before = ARGV[1], redis.call('GET', K.reader)
if reader == '' then
  if redis.call('EXISTS', K.outbox) == 1 then return 0 end
  redis.call('DEL', K.reader)
  return 1
end
if before then return before:match('^(%S+) ') == reader and 1 or 0 end
redis.call('SET', K.reader, reader .. ' ' .. int(NOW))
return 1
