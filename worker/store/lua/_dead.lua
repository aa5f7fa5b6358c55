-- Dead letters. They lie in groups: one sorted set (id -> when it died) for each kind, code and badge, or for
-- invalid rows kind, field and class of reason. The number of its group stands in a job's record.
-- How long after its call a job in doubt is checked with the vendor, ms; nil: it waits for a person.
local check_after_ms = nil

-- Those that died while a script went on, for the caller's log: {{id, run, kind, code}, ...}
local died = {}

-- A script has no more than 200 names, so that those of no use outside end with the block.
local bury, is_listed, unlist, revive, exhume, set_cancelled, write_ends
do
  local MOST_GROUPS, MOST_CODES = 1000, 100

  -- Codes, badges and fields are foreign, so that there may be any number of them: beyond the bound they share
  -- a group of their kind.
  local function find_group(kind, name)
    local number = redis.call('HGET', K.group_numbers, name)
    if number then return number end
    if redis.call('HLEN', K.groups) >= MOST_GROUPS then
      name = kind .. SEPARATOR .. OTHER .. SEPARATOR
      number = redis.call('HGET', K.group_numbers, name)
      if number then return number end
    end
    number = int(redis.call('HINCRBY', K.group_numbers, '', 1))
    redis.call('HSET', K.group_numbers, name, number)
    redis.call('HSET', K.groups, number, name)
    return number
  end

  -- What was found of groups and counters, and what is to be written once, at the script's end (write_ends).
  local group_numbers, counter_names, counted, left_groups = {}, {}, {}, {}

  local function group_of(kind, code, badge)
    local name = kind .. SEPARATOR .. code .. SEPARATOR .. badge
    group_numbers[name] = group_numbers[name] or find_group(kind, name)
    return group_numbers[name]
  end

  local function stat_later(counter, by) counted[counter] = (counted[counter] or 0) + by end

  local function find_counter(kind, code)
    local counter = 'dead:' .. kind .. ':' .. code
    if redis.call('HEXISTS', K.stats, counter) == 1 then return counter end
    if (tonumber(redis.call('HGET', K.stats, 'codes') or nil) or 0) >= MOST_CODES then
      return 'dead:' .. kind .. ':' .. OTHER
    end
    stat('codes', 1)
    return counter
  end

  local function stat_dead(kind, code)
    local name = kind .. SEPARATOR .. code
    counter_names[name] = counter_names[name] or find_counter(kind, code)
    stat_later('dead:' .. kind, 1)
    stat_later('listed:' .. kind, 1)
    stat_later(counter_names[name], 1)
  end

  -- A job becomes a dead letter; its fields hold kind and code. from is the word of its state until now, nil for
  -- one that is just born. class: of what is wrong with an invalid row.
  function bury(id, fields, from, class)
    local run, kind, code = fields[FIELD.run], fields[FIELD.kind], fields[FIELD.code]
    if code == '' then code = 'none' end
    local group = group_of(kind, code, class or fields[FIELD.badge])
    fields[FIELD.state], fields[FIELD.group], fields[FIELD.finished_at] = STATE.dead, group, int(NOW)
    if kind == KIND.in_doubt then fields[FIELD.was_in_doubt] = '1' end
    write(id, fields)
    redis.call('ZADD', K.dead .. group, int(NOW), id)
    moved(run, from, 'dead')
    count(run, 'dead:' .. kind, 1)
    count(run, 'unhandled', 1)
    stat_dead(kind, code)
    note_end(id, 'dead')
    died[#died + 1] = {id, run, kind, code}
    if kind == KIND.in_doubt and check_after_ms then
      redis.call('ZADD', K.checks, int(NOW + check_after_ms), id)
    end
  end

  function is_listed(id, fields)
    return fields[FIELD.state] == STATE.dead and redis.call('ZSCORE', K.dead .. fields[FIELD.group], id)
  end

  -- A dead letter needs nobody any more; answers whether it needed somebody until now.
  function unlist(id, fields)
    local group, kind = fields[FIELD.group], fields[FIELD.kind]
    if kind == KIND.in_doubt then redis.call('ZREM', K.checks, id) end
    if redis.call('ZREM', K.dead .. group, id) == 0 then return false end
    left_groups[group] = true
    count(fields[FIELD.run], 'unhandled', -1)
    stat_later('listed:' .. kind, -1)
    return true
  end

  -- The fields of one that was a dead letter and is none any more.
  function revive(fields)
    count(fields[FIELD.run], 'dead:' .. fields[FIELD.kind], -1)
    for _, name in ipairs({'kind', 'code', 'group', 'message', 'finished_at', 'absent_since'}) do
      fields[FIELD[name]] = ''
    end
  end

  -- A dead letter is one no longer: it is queued again, or turned out to be issued. The caller writes it.
  function exhume(id, fields)
    unlist(id, fields)
    revive(fields)
  end

  -- Its words are those of its code (store/record.py); of an earlier attempt there may be others.
  function set_cancelled(fields)
    if fields[FIELD.code] ~= '' then fields[FIELD.message] = '' end
    fields[FIELD.kind], fields[FIELD.code] = KIND.cancelled, 'cancelled'
  end

  -- Write, once, what was counted and who has ended; groups that are empty by now go.
  function write_ends()
    for group in pairs(left_groups) do
      if redis.call('EXISTS', K.dead .. group) == 0 then
        redis.call('HDEL', K.group_numbers, redis.call('HGET', K.groups, group) or '-')
        redis.call('HDEL', K.groups, group)
      end
    end
    for counter, by in pairs(counted) do stat(counter, by) end
    write_counts()
    write_outbox()
  end
end
