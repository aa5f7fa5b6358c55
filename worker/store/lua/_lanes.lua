-- The lanes in which ids wait: urgent ones overtake the queue; what is left of a refused batch is isolated.
local function lane(urgent) return urgent == '1' and K.urgent or K.queue end

-- A job that has a record waits (again) from now on, at the end of its lane; of a cancelled run it is cancelled.
-- is_certain: no earlier call has applied it, though it was in doubt.
-- ends: of each lane the ids that the caller adds to it at once, later; then the record is written at the end too.
local function wait_again(id, fields, from, ends, is_certain)
  if is_cancelled(fields[FIELD.run]) then
    set_cancelled(fields, is_certain)
    bury(id, fields, from)
    return false
  end
  fields[FIELD.state], fields[FIELD.ready_since] = STATE.queued, NOW_TEXT
  if ends then many.write(id, fields) else write(id, fields) end
  local list = lane(fields[FIELD.urgent])
  if fields[FIELD.job_kind] == REVOKE then
    redis.call('ZADD', K.revokes, 0, id)
  elseif later.is(fields[FIELD.run]) then
    later.put(fields[FIELD.run], {id})
  elseif ends then
    table.insert(ends[list], id)
  else
    redis.call('RPUSH', list, id)
  end
  moved(fields[FIELD.run], from, 'queued')
  return true
end
