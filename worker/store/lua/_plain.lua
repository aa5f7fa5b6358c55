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
  local TO_MESSAGE = '^' .. skipped(FIELD.row, FIELD.message - 1) .. '()' -- where the row is left out
  local AGAIN = NOW_TEXT .. SEPARATOR .. '0' .. string.rep(SEPARATOR, 2)
  local find, match, sub, its = string.find, string.match, string.sub, {}
  local front, middle
  local text, badge_ends, customer_ends, at, past -- of the record that was asked last, and where its pieces end

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

  -- A record in its pieces, in one table for all: what was asked before isn't there any more; and whether it is like
  -- the one before in all but its badge and what lies about it. Nothing where it isn't plain, or so short that its end
  -- lies in one of the pieces: that one has to be parsed.
  function many.plain(raw)
    local is_alike = front and find(raw, front, 1, true) == 1
    if not is_alike and not take_front(raw) then return end
    badge_ends = find(raw, SEPARATOR, #front + 1, true)
    customer_ends = badge_ends and find(raw, SEPARATOR, badge_ends + 1, true)
    at = customer_ends and find(raw, SEPARATOR, customer_ends + 1, true)
    if not at then
      middle = nil -- the next is compared with none
      return
    end
    at = at + 1
    if not (middle and find(raw, middle, at, true) == at) then
      is_alike = false
      if not take_middle(raw, at) then return end
    end
    text, past = raw, at + #middle
    return its, is_alike
  end

  function many.badge() return sub(text, #front + 1, badge_ends - 1) end
  function many.has_fingerprint() return find(text, HAS_FINGERPRINT, past) ~= nil end

  -- The same one as a dead letter; why: its kind, code and group, each with a separator behind it.
  function many.as_dead(why)
    return its.front_of_dead .. sub(text, #front + 1, at - 1) .. its.tried .. why .. its.doubt .. sub(text, past)
  end

  -- What lies behind the row, and the same without its message: of many it is alike as well.
  local behind, behind_of_queued
  local function take_behind(row_ends)
    behind = sub(text, row_ends)
    local begins = match(behind, TO_MESSAGE)
    local ends = begins and find(behind, SEPARATOR, begins, true)
    if ends then
      behind_of_queued = sub(behind, 1, begins - 1) .. sub(behind, ends)
    else
      behind_of_queued = sub(behind, 1, begins and begins - 1):gsub(SEPARATOR .. '+$', '')
    end
  end

  -- The same one as it waits again, with no attempts.
  function many.as_queued()
    local row_ends = find(text, SEPARATOR, past, true) or #text + 1
    local is_alike = behind and #behind == #text - row_ends + 1 and find(text, behind, row_ends, true) == row_ends
    if not is_alike then take_behind(row_ends) end
    return its.front_of_queued .. sub(text, #front + 1, customer_ends) .. its.middle_of_queued
      .. sub(text, past, row_ends - 1) .. behind_of_queued
  end
end
