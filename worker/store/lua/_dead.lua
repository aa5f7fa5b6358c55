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

  local function stat_dead(kind, code, by)
    local name = kind .. SEPARATOR .. code
    counter_names[name] = counter_names[name] or find_counter(kind, code)
    stat_later('dead:' .. kind, by)
    stat_later('listed:' .. kind, by)
    stat_later(counter_names[name], by)
  end

  local function count_dead(run, from, kind, code, by)
    if from then count(run, from, -by) end
    count(run, 'dead', by)
    count(run, 'dead:' .. kind, by)
    count(run, 'unhandled', by)
    stat_dead(kind, code, by)
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
    count_dead(run, from, kind, code, 1)
    note_end(id, 'dead')
    died[#died + 1] = {id, run, kind, code}
    if kind == KIND.in_doubt and check_after_ms then
      redis.call('ZADD', K.checks, int(NOW + check_after_ms), id)
    end
  end

  -- The same for many: what is alike is counted once, and all is written at the script's end. So nothing that is
  -- buried like this may be read again before.
  local alike, now = {}, NOW_TEXT

  function many.those_of(run, from, kind, code, badge)
    local name = table.concat({run, from, kind, code, badge}, SEPARATOR)
    if not alike[name] then
      local group = group_of(kind, code, badge)
      alike[name] = {run = run, from = from, kind = kind, code = code, group = group, letters = {}, size = 0}
    end
    return alike[name]
  end

  function many.bury_with(those, id)
    local letters, size = those.letters, those.size
    letters[size + 1], letters[size + 2], those.size = now, id, size + 2
    note_end(id, 'dead')
  end

  function many.bury(id, fields, from)
    local those = many.those_of(fields[FIELD.run], from, fields[FIELD.kind], fields[FIELD.code], fields[FIELD.badge])
    fields[FIELD.state], fields[FIELD.group], fields[FIELD.finished_at] = STATE.dead, those.group, now
    many.write(id, fields)
    many.bury_with(those, id)
  end

  local function bury_all()
    for _, those in pairs(alike) do
      in_chunks(those.letters, function(...) redis.call('ZADD', K.dead .. those.group, ...) end)
      count_dead(those.run, those.from, those.kind, those.code, those.size / 2)
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

  -- The same for many, {id = fields}; answers those that needed somebody until now.
  function many.unlist(jobs)
    local groups, listed = {}, {}
    for id, fields in pairs(jobs) do
      local group = fields[FIELD.group]
      groups[group] = groups[group] or {}
      table.insert(groups[group], id)
    end
    for group, ids in pairs(groups) do
      local gone = {}
      for n, at in ipairs(redis.call('ZMSCORE', K.dead .. group, unpack(ids))) do
        if at then
          local id = ids[n]
          local fields = jobs[id]
          listed[id], gone[#gone + 1] = fields, id
          count(fields[FIELD.run], 'unhandled', -1)
          stat_later('listed:' .. fields[FIELD.kind], -1)
          if fields[FIELD.kind] == KIND.in_doubt then redis.call('ZREM', K.checks, id) end
        end
      end
      if #gone > 0 then
        redis.call('ZREM', K.dead .. group, unpack(gone))
        left_groups[group] = true
      end
    end
    return listed
  end

  -- The same for plain letters that lie one behind the other in a group: all of them, or some. The caller counts them
  -- (many.count_unlisted) before anything else changes the group.
  function many.take_out(group, letters, taken)
    if #taken == 0 then return end
    local first = redis.call('ZRANK', K.dead .. group, letters[1])
    if #taken == #letters then
      redis.call('ZREMRANGEBYRANK', K.dead .. group, first, first + #letters - 1)
    else
      redis.call('ZREM', K.dead .. group, unpack(taken))
    end
    left_groups[group] = true
  end

  function many.count_unlisted(run, kind, by)
    count(run, 'unhandled', -by)
    stat_later('listed:' .. kind, -by)
  end

  -- The fields of one that was a dead letter and is none any more.
  function revive(fields)
    count(fields[FIELD.run], 'dead:' .. fields[FIELD.kind], -1)
    fields[FIELD.kind], fields[FIELD.code], fields[FIELD.group], fields[FIELD.finished_at] = '', '', '', ''
    if many.peek(fields, FIELD.message) ~= '' then fields[FIELD.message] = '' end
    if many.peek(fields, FIELD.absent_since) ~= '' then fields[FIELD.absent_since] = '' end
  end

  -- A dead letter is one no longer: it is queued again, or turned out to be issued. The caller writes it.
  function exhume(id, fields)
    unlist(id, fields)
    revive(fields)
  end

  -- Its words are those of its code (store/record.py); of an earlier attempt there may be others. Where an earlier call
  -- may have applied it, it is in doubt as before that waited: it isn't certain that it wasn't issued, unless somebody
  -- has found that out.
  function set_cancelled(fields, is_certain)
    if fields[FIELD.was_in_doubt] ~= '' and not is_certain then
      fields[FIELD.kind], fields[FIELD.code] = KIND.in_doubt, 'cancelled'
      fields[FIELD.message] = 'an earlier call may have issued it; it was cancelled before it was sent again'
      return
    end
    if fields[FIELD.code] ~= '' then fields[FIELD.message] = '' end
    fields[FIELD.kind], fields[FIELD.code] = KIND.cancelled, 'cancelled'
  end

  -- Write, once, what was counted and who has ended; groups that are empty by now go.
  function write_ends()
    bury_all()
    many.write_all()
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
