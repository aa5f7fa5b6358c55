#!lua
-- Take badges back: for each job that was issued a job of its own is accepted, which will revoke it.
-- Uses     clock calls record runs outbox dead
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id
-- ARGV[2]  the undo: the run of the new jobs, and the entry of the audit trail that counts
-- ARGV[3]  how long results, and a run that is over, are kept, ms
-- ARGV[4]… two for each of at most 1,000: the id of the job that was issued, and that of the new job
-- Returns  how many new jobs there are; others are known already, or weren't issued with an earnedBadgeId
-- Repeated: the same call id gets the same answer.
local call, run, ttl_ms = ARGV[1], ARGV[2], ARGV[3]
local before = recall(call)
if before then return tonumber(before) end
local born = {}
for at = 4, #ARGV, 2 do
  local id, new_id = ARGV[at], ARGV[at + 1]
  local job = read(id)
  local issued = job and job[FIELD.state] == STATE.issued and job[FIELD.earned_badge_id] ~= ''
  if issued and job[FIELD.job_kind] ~= REVOKE and redis.call('EXISTS', K.job .. new_id) == 0 then
    local new = parse(tostring(RECORD_VERSION))
    new[FIELD.enqueued_at], new[FIELD.job_kind], new[FIELD.state] = int(NOW), REVOKE, STATE.queued
    new[FIELD.run], new[FIELD.revokes] = run, id
    for _, name in ipairs({'badge', 'customer', 'earned_badge_id', 'second_earned', 'vendor_expiry', 'row'}) do
      new[FIELD[name]] = job[FIELD[name]]
    end
    write(new_id, new)
    redis.call('ZADD', K.revokes, 0, new_id)
    moved(run, nil, 'queued')
    count(run, 'total', 1)
    born[#born + 1] = new_id
  end
end
if #born > 0 then
  redis.call('RPUSH', K.jobs .. run, unpack(born))
  begin_run(run, ttl_ms)
  redis.call('HSET', K.run .. run, 'undoes', 1)
end
write_ends()
audited(run, #born)
return tonumber(memoize(call, int(#born)))
