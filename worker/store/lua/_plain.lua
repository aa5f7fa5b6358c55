-- Plain records, for many at once that change their state: those of this version whose job takes no badge back.
-- What lies before the badge, and what lies between the time since when it waits and the row, is alike in many of one
-- call or batch: it is taken apart once, and then compared, at a tenth of the cost. Every text that is made on the
-- way costs a quarter of a microsecond and more, the server's for it and the garbage.
do
  local SKIPPED = '[^' .. SEPARATOR .. ']*' .. SEPARATOR
  local ONE = '([^' .. SEPARATOR .. ']*)' .. SEPARATOR
  local function skipped(first, last) return SKIPPED:rep(last - first + 1) end
  local ISSUES = '[^' .. REVOKE .. SEPARATOR .. ']*' .. SEPARATOR
  local FRONT = '^(' .. RECORD_VERSION .. SEPARATOR .. SKIPPED
    .. '(' .. skipped(FIELD.enqueued_at, FIELD.job_kind - 1) .. ISSUES .. ')' .. ONE .. '(' .. ONE .. ONE .. '))'
  local MIDDLE = '^((' .. skipped(FIELD.attempts, FIELD.busy) .. '(' .. SKIPPED .. '))' .. ONE:rep(3)
    .. '(' .. ONE .. '))'
  local HAS_FINGERPRINT = '^' .. skipped(FIELD.row, FIELD.fingerprint - 1) .. '[^' .. SEPARATOR .. ']'
  local TO_MESSAGE = '^' .. skipped(FIELD.row, FIELD.message - 1) .. '()'
  local AGAIN = NOW_TEXT .. SEPARATOR .. '0' .. string.rep(SEPARATOR, 2)
  local find, sub, its = string.find, string.sub, {}
  local front, middle

  -- Answers whether a record has another front than the one before, that is plain.
  local function take_front(raw)
    local made, whose
    front, made, its.state, whose, its.urgent, its.run = raw:match(FRONT)
    if not front then return false end
    its.front_of_dead = RECORD_VERSION .. SEPARATOR .. NOW_TEXT .. SEPARATOR .. made .. STATE.dead .. SEPARATOR .. whose
    its.front_of_queued = RECORD_VERSION .. string.rep(SEPARATOR, 2) .. made .. STATE.queued .. SEPARATOR .. whose
    return true
  end

  local function take_middle(raw, at)
    local batch
    middle, its.tried, batch, its.kind, its.code, its.group, its.doubt, its.was_in_doubt = raw:match(MIDDLE, at)
    if not middle then return false end
    its.middle_of_queued = AGAIN .. batch .. string.rep(SEPARATOR, 3) .. its.doubt
    return true
  end

  -- A record in its pieces, in one table for all: what was asked before isn't there any more. Nothing where it isn't
  -- plain, or so short that its end lies in one of the pieces: that one has to be parsed.
  function many.plain(raw)
    if not (front and find(raw, front, 1, true) == 1 or take_front(raw)) then return end
    local badge_ends = find(raw, SEPARATOR, #front + 1, true)
    local customer_ends = badge_ends and find(raw, SEPARATOR, badge_ends + 1, true)
    local at = customer_ends and find(raw, SEPARATOR, customer_ends + 1, true)
    if not at then return end
    at = at + 1
    if not (middle and find(raw, middle, at, true) == at or take_middle(raw, at)) then return end
    its.raw, its.badge_ends, its.customer_ends, its.at, its.past = raw, badge_ends, customer_ends, at, at + #middle
    return its
  end

  function many.badge() return sub(its.raw, #front + 1, its.badge_ends - 1) end
  function many.has_fingerprint() return find(its.raw, HAS_FINGERPRINT, its.past) ~= nil end

  -- The same one as a dead letter; why: its kind, code and group, each with a separator behind it.
  function many.as_dead(why)
    return its.front_of_dead .. sub(its.raw, #front + 1, its.at - 1) .. its.tried .. why .. its.doubt
      .. sub(its.raw, its.past)
  end

  local function without_message()
    local raw, at = its.raw, its.raw:match(TO_MESSAGE, its.past)
    local ends = at and find(raw, SEPARATOR, at, true)
    if ends then return sub(raw, its.past, at - 1) .. sub(raw, ends) end
    local last = at and at - 1 or #raw
    while raw:byte(last) == 31 do last = last - 1 end
    return sub(raw, its.past, last)
  end

  -- The same one as it waits again, with no attempts.
  function many.as_queued()
    return its.front_of_queued .. sub(its.raw, #front + 1, its.customer_ends) .. its.middle_of_queued .. without_message()
  end
end
