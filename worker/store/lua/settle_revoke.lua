#!lua flags=allow-oom
-- Write what became of a call that takes a badge back. On a full server as well.
-- Uses     clock calls record runs outbox dead memory undone gate
-- KEYS[1]  what all keys of the org begin with
-- ARGV[1]  call id    ARGV[2]  id of the job that revokes
-- ARGV[3]  'undone' the badge is taken back; 'later': to be tried again; 'dead': it can't be; 'wait': no call was
--          made, and none may be now, of whatever is to be taken back
-- ARGV[4]  later, wait: for how many ms; dead: the kind    ARGV[5]  code    ARGV[6]  message
-- ARGV[7]  1 if it spends an attempt    ARGV[8]  how long results are kept, ms
-- ARGV[9]  HTTP status, or our word for none    ARGV[10] the earnedBadgeId that was to be taken back
-- ARGV[11] JSON: {clock}, as in the cfg of the gate
-- Returns  {word}: of its state now; '' if that had ended before
-- Repeated: the same call id gets the same answer.
local call, id, verb, argument, code, message = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local before = recall(call)
if before then return {before} end
local ttl_ms = ARGV[8]
read_gate(cjson.decode(ARGV[11]))

-- The job whose badge it was; one that was issued twice has lost both by now.
local function undo(job)
  local original = read(job[FIELD.revokes])
  if not original or original[FIELD.state] ~= STATE.issued then return end
  original[FIELD.state], original[FIELD.undone] = STATE.undone, int(NOW) .. ' ' .. job[FIELD.run]
  original[FIELD.code], original[FIELD.message] = code, message
  write(job[FIELD.revokes], original, kept_ms(ttl_ms))
  note_undone(job[FIELD.revokes])
  note_end(job[FIELD.revokes], 'undone')
  -- What is kept longer than its run is counted nowhere any more.
  if redis.call('EXISTS', K.run .. original[FIELD.run]) == 1 then moved(original[FIELD.run], 'issued', 'undone') end
end

-- The other badge of one that was issued twice, unless that is what was just taken back; a late answer may have
-- told of it since the undo began.
local function second_of(job)
  if job[FIELD.second_earned] ~= '' then return job[FIELD.second_earned] end
  local original = read(job[FIELD.revokes])
  local second = original and original[FIELD.second_earned] or ''
  return second ~= job[FIELD.earned_badge_id] and second or ''
end

local function settle(job)
  job[FIELD.attempts] = int((tonumber(job[FIELD.attempts]) or 0) + tonumber(ARGV[7]))
  local second = verb == 'undone' and second_of(job) or ''
  if second ~= '' then -- issued twice: the other one goes as well
    job[FIELD.earned_badge_id], job[FIELD.second_earned] = second, ''
    write(id, job)
    redis.call('ZADD', K.revokes, 0, id)
    return 'queued'
  end
  job[FIELD.code], job[FIELD.message] = code, message
  if verb == 'later' and not is_cancelled(job[FIELD.run]) then
    remember_attempt(job, call, ARGV[9], '-', code)
    write(id, job)
    redis.call('ZADD', K.revokes, int(T + tonumber(argument)), id)
    return 'queued'
  end
  redis.call('ZREM', K.revokes, id)
  if verb == 'later' then
    set_cancelled(job)
    bury(id, job, 'queued')
    return 'dead'
  end
  if verb == 'dead' then
    job[FIELD.kind] = argument
    remember_attempt(job, call, ARGV[9], '-', code)
    bury(id, job, 'queued')
    return 'dead'
  end
  job[FIELD.state], job[FIELD.finished_at] = STATE.undone, int(NOW)
  job[FIELD.undone] = int(NOW) .. ' ' .. job[FIELD.run]
  write(id, job, kept_ms(ttl_ms))
  note_end(id, 'undone')
  moved(job[FIELD.run], 'queued', 'undone')
  stat('undone', 1)
  undo(job)
  return 'undone'
end

local function wait()
  redis.call('ZADD', K.revokes, 0, id)
  redis.call('SET', K.revoker, '- - ' .. int(T + tonumber(argument)))
  return 'queued'
end

-- What somebody was slow to say of its first badge says nothing of its second.
local function is_about(job)
  local is_open = job and job[FIELD.job_kind] == REVOKE and job[FIELD.state] == STATE.queued
  return is_open and job[FIELD.earned_badge_id] == ARGV[10]
end

local job, word = read(id), ''
if is_about(job) then word = verb == 'wait' and wait() or settle(job) end
write_ends()
return {memoize(call, word)}
