-- Dead letters. They lie in groups: one sorted set (id -> when it died) for each kind, code and badge, or for
-- invalid rows kind, field and class of reason. The number of its group stands in a job's record.
local MOST_GROUPS, MOST_CODES = 1000, 100

-- How long after its call a job in doubt is checked with the vendor, ms; nil: it waits for a person.
local check_after_ms = nil

-- Those that died while a script went on, for the caller's log: {{id, run, kind, code}, ...}
local died = {}

-- Codes, badges and fields are foreign, so that there may be any number of them: beyond the bound they share
-- a group of their kind.
local function group_of(kind, code, badge)
  local name = kind .. SEPARATOR .. code .. SEPARATOR .. badge
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

local function stat_dead(kind, code)
  stat('dead:' .. kind, 1)
  local counter = 'dead:' .. kind .. ':' .. code
  if redis.call('HEXISTS', K.stats, counter) == 0 then
    if (tonumber(redis.call('HGET', K.stats, 'codes') or nil) or 0) >= MOST_CODES then
      counter = 'dead:' .. kind .. ':' .. OTHER
    else
      stat('codes', 1)
    end
  end
  stat(counter, 1)
end

-- A job becomes a dead letter; its fields hold kind and code. from is the word of its state until now, nil for
-- one that is just born. class: of what is wrong with an invalid row.
local function bury(id, fields, from, class)
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
  stat('listed:' .. kind, 1)
  stat_dead(kind, code)
  note_end(id, 'dead')
  died[#died + 1] = {id, run, kind, code}
  if kind == KIND.in_doubt and check_after_ms then
    redis.call('ZADD', K.checks, int(NOW + check_after_ms), id)
  end
end

local function is_listed(id, fields)
  return fields[FIELD.state] == STATE.dead and redis.call('ZSCORE', K.dead .. fields[FIELD.group], id)
end

-- A dead letter needs nobody any more; answers whether it needed somebody until now.
local function unlist(id, fields)
  local group = fields[FIELD.group]
  redis.call('ZREM', K.checks, id)
  if redis.call('ZREM', K.dead .. group, id) == 0 then return false end
  if redis.call('EXISTS', K.dead .. group) == 0 then
    redis.call('HDEL', K.group_numbers, redis.call('HGET', K.groups, group) or '-')
    redis.call('HDEL', K.groups, group)
  end
  count(fields[FIELD.run], 'unhandled', -1)
  stat('listed:' .. fields[FIELD.kind], -1)
  return true
end

-- A dead letter is one no longer: it is queued again, or turned out to be issued. The caller writes it.
local function exhume(id, fields)
  unlist(id, fields)
  count(fields[FIELD.run], 'dead:' .. fields[FIELD.kind], -1)
  for _, name in ipairs({'kind', 'code', 'group', 'message', 'finished_at', 'absent_since'}) do
    fields[FIELD[name]] = ''
  end
end

local function set_cancelled(fields)
  fields[FIELD.kind], fields[FIELD.code] = KIND.cancelled, 'cancelled'
  fields[FIELD.message] = 'it was cancelled before it was sent'
end
