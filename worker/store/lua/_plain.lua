-- Plain records, for many at once that change their state: each function gives nothing where it isn't such a record
-- of this version, which then has to be parsed. They are rewritten in one step: every piece would be a text of its own.
do
  local ONE, SKIPPED = '([^' .. SEPARATOR .. ']*)' .. SEPARATOR, '[^' .. SEPARATOR .. ']*' .. SEPARATOR
  local function skipped(first, last) return SKIPPED:rep(last - first + 1) end
  local ISSUES = '[^' .. REVOKE .. SEPARATOR .. ']*' -- any kind of job that takes no badge back
  local THIS = '^' .. RECORD_VERSION .. SEPARATOR
  local MADE = '(' .. skipped(FIELD.enqueued_at, FIELD.job_kind - 1) .. ISSUES .. SEPARATOR .. ')'

  -- Of one that waits, run and badge.
  local WAITS = THIS .. skipped(FIELD.finished_at, FIELD.job_kind - 1) .. ISSUES .. SEPARATOR .. STATE.queued
    .. SEPARATOR .. skipped(FIELD.urgent, FIELD.run - 1) .. ONE .. ONE
  function many.that_waits(raw) return raw:match(WAITS) end

  -- The same one as a dead letter of a kind, code and group, if it has none of these.
  local TO_DEAD = THIS .. SKIPPED .. MADE .. STATE.queued .. '(' .. SEPARATOR .. skipped(FIELD.urgent, FIELD.kind - 1)
    .. ')' .. string.rep(SEPARATOR, 3)
  local DEAD_AS = RECORD_VERSION .. SEPARATOR .. NOW_TEXT .. SEPARATOR .. '%%1' .. STATE.dead .. '%%2'
    .. ('%s' .. SEPARATOR):rep(3)
  function many.as_dead(kind, code, group) return DEAD_AS:format(kind, code, group) end
  function many.to_dead(raw, as)
    local dead, found = raw:gsub(TO_DEAD, as, 1)
    return found == 1 and dead or nil
  end

  -- Of a dead letter: urgent, run, badge, kind, group, was_in_doubt, fingerprint.
  local IS_DEAD = THIS .. skipped(FIELD.finished_at, FIELD.job_kind - 1) .. ISSUES .. SEPARATOR .. STATE.dead
    .. SEPARATOR .. ONE .. ONE .. ONE .. skipped(FIELD.badge + 1, FIELD.kind - 1) .. ONE .. SKIPPED .. ONE .. ONE
    .. skipped(FIELD.was_in_doubt + 1, FIELD.fingerprint - 1) .. ONE
  function many.that_is_dead(raw) return raw:match(IS_DEAD) end

  -- The same one as it waits again, without its message.
  local TO_QUEUED = THIS .. SKIPPED .. MADE .. STATE.dead
    .. '(' .. SEPARATOR .. skipped(FIELD.urgent, FIELD.customer) .. ')' .. skipped(FIELD.ready_since, FIELD.busy) .. '(' .. SKIPPED .. ')' .. skipped(FIELD.kind, FIELD.group)
  local WITH_MESSAGE = TO_QUEUED .. '(' .. skipped(FIELD.group + 1, FIELD.message - 1) .. ')[^' .. SEPARATOR .. ']*'
  local QUEUED_AGAIN = RECORD_VERSION .. SEPARATOR .. SEPARATOR .. '%1' .. STATE.queued .. '%2'
    .. NOW_TEXT .. SEPARATOR .. '0' .. SEPARATOR .. SEPARATOR .. '%3' .. string.rep(SEPARATOR, 3)
  function many.to_queued(raw)
    local queued, found = raw:gsub(WITH_MESSAGE, QUEUED_AGAIN .. '%4', 1)
    if found == 0 then return (raw:gsub(TO_QUEUED, QUEUED_AGAIN, 1)) end
    local last = #queued
    while queued:byte(last) == 31 do last = last - 1 end
    return queued:sub(1, last)
  end
end
