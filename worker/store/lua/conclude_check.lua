#!lua
-- Write what a check of jobs in doubt found.
-- Uses     clock calls record runs outbox dead later lanes
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  'cleared' certainly not issued: they are queued again, with the attempts they had;
--          'seen'    the vendor has such a badge, which may be an older one: they wait for a person;
--          'absent'  none is shown yet: ask again later
-- ARGV[3]  absent: the witness's id    ARGV[4]  absent: when to ask again, ms from now
-- ARGV[5]  one that died later than this, ms, was sent again since: left alone; '': none was
-- ARGV[6]  the entry of the audit trail that counts them, or ''
-- ARGV[7]… ids
-- Returns  how many jobs it was true of
-- Repeated: the same call id gets the same answer.
local call, verdict = ARGV[1], ARGV[2]
local before = recall(call)
if before then return tonumber(before) end
local done = 0
local died_by = tonumber(ARGV[5]) or NEVER
for at = 7, #ARGV do
  local id = ARGV[at]
  local fields = read(id)
  -- Not if it was discarded or replaced during the check: it is in no group then.
  local same = fields and (tonumber(fields[FIELD.finished_at]) or 0) <= died_by
  if same and fields[FIELD.kind] == KIND.in_doubt and is_listed(id, fields) then
    done = done + 1
    if verdict == 'absent' then
      -- By another witness than before, which can't tell any more, the looks begin again.
      if fields[FIELD.absent_since]:match('(%S*)$') ~= ARGV[3] then
        fields[FIELD.absent_since] = int(NOW) .. ' ' .. ARGV[3]
        write(id, fields)
      end
      if redis.call('ZSCORE', K.checks, id) then redis.call('ZADD', K.checks, int(NOW + tonumber(ARGV[4])), id) end
    elseif verdict == 'seen' then
      redis.call('ZREM', K.checks, id)
      fields[FIELD.message] = 'the vendor shows such a badge; it may be this one or an older'
      write(id, fields)
    else
      exhume(id, fields)
      wait_again(id, fields, 'dead', nil, true)
    end
  end
end
write_ends()
audited(ARGV[6], done)
return tonumber(memoize(call, int(done)))
