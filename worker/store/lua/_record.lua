-- Records of jobs. One is a string of fields, apart by a byte that no field holds; empty ones at its end are
-- left out. FIELD, FIELDS, SEPARATOR and STATE come from store/record.py, which writes records as well.
-- Every script reads the version first, and leaves alone what only a newer program can read.
-- What is done to many records at once; in a table, since a script has no more than 200 names.
local many = {}
local newer, head, accepted, waiting, ended, parse, pack
do
  local ONE, SKIPPED = '([^' .. SEPARATOR .. ']*)' .. SEPARATOR, '[^' .. SEPARATOR .. ']*' .. SEPARATOR
  local HEAD = '^' .. ONE .. SKIPPED:rep(FIELD.state - 2) .. ONE:rep(3) .. '()'
  local BADGE_AND_CUSTOMER = '^' .. ONE:rep(2)

  -- One that says no version is no record that we know: it is left alone as well.
  function newer(version) return (tonumber(version or nil) or math.huge) > RECORD_VERSION end

  -- Of the first fields: version, state, urgent, run, badge, customer. Records of one call are alike up to the badge:
  -- to compare that costs a third of reading it.
  local alike, version, state, urgent, run, badge_at
  function head(raw)
    if not alike or raw:sub(1, #alike) ~= alike then
      version, state, urgent, run, badge_at = raw:match(HEAD)
      alike = badge_at and raw:sub(1, badge_at - 1)
      if not alike then return end
    end
    return version, state, urgent, run, raw:match(BADGE_AND_CUSTOMER, badge_at)
  end

  -- A record as Python writes it comes without its first fields: the times are the server's. "accepted" begins
  -- behind both of them, the others with "enqueued_at".
  local new_begins, ended_begins -- written once a call
  function accepted(rest)
    new_begins = new_begins or RECORD_VERSION .. SEPARATOR .. SEPARATOR .. int(NOW) .. SEPARATOR
    return new_begins .. rest
  end
  function waiting(rest) return RECORD_VERSION .. SEPARATOR .. SEPARATOR .. rest end
  function ended(rest)
    ended_begins = ended_begins or RECORD_VERSION .. SEPARATOR .. int(NOW) .. SEPARATOR
    return ended_begins .. rest
  end

  -- Those behind the last that scripts go by lie in one piece, until somebody asks for one of them.
  local HEAD_FIELDS = FIELD.undone
  local HEAD_AND_BODY = '^' .. ONE:rep(HEAD_FIELDS) .. '(.*)$'

  local function take_apart(fields)
    local n, body = HEAD_FIELDS, fields.body
    setmetatable(fields, nil)
    fields.body = nil
    for value in (body .. SEPARATOR):gmatch(ONE) do
      n = n + 1
      fields[n] = value
    end
    for place = n + 1, FIELDS do fields[place] = '' end
  end

  local IN_ONE_PIECE = {
    __index = function(fields, place)
      take_apart(fields)
      return fields[place]
    end,
    __newindex = function(fields, place, value)
      take_apart(fields)
      fields[place] = value
    end,
  }

  function parse(raw)
    local fields, n = {raw:match(HEAD_AND_BODY)}, 0
    if fields[1] then
      fields.body, fields[HEAD_FIELDS + 1] = fields[HEAD_FIELDS + 1], nil
      return setmetatable(fields, IN_ONE_PIECE)
    end
    for value in (raw .. SEPARATOR):gmatch('([^' .. SEPARATOR .. ']*)' .. SEPARATOR) do
      n = n + 1
      fields[n] = value
    end
    for place = n + 1, FIELDS do fields[place] = '' end
    return fields
  end

  -- One of the fields behind those that scripts go by, while they still lie in one piece.
  local AT = {}
  function many.peek(fields, place)
    local body = rawget(fields, 'body')
    if not body then return fields[place] end
    AT[place] = AT[place] or '^' .. SKIPPED:rep(place - HEAD_FIELDS - 1) .. '([^' .. SEPARATOR .. ']*)'
    return body:match(AT[place]) or ''
  end

  function pack(fields)
    local body = rawget(fields, 'body')
    if body and body ~= '' then return table.concat(fields, SEPARATOR, 1, HEAD_FIELDS) .. SEPARATOR .. body end
    if body then take_apart(fields) end
    local last = FIELDS
    while fields[last] == '' do last = last - 1 end
    return table.concat(fields, SEPARATOR, 1, math.max(last, FIELD.customer + 1))
  end
end

-- The fields of a job; nil if it has no record, or one that only a newer program can read.
local function read(id)
  local raw = redis.call('GET', K.job .. id)
  if not raw or newer(raw:match('^%d+')) then return nil end
  return parse(raw)
end

local function write(id, fields, ttl_ms)
  if ttl_ms then
    redis.call('SET', K.job .. id, pack(fields), 'PX', ttl_ms)
  else
    redis.call('SET', K.job .. id, pack(fields))
  end
end

-- Write many records at once, name and text in turns. One command does so with an expiry since Valkey 9.1 and
-- Redis 8.4; four microseconds a record are saved.
local function write_many(records, ttl_ms)
  local valkey, step = rawget(_G, 'server'), 1000
  local at_once = (redis.REDIS_VERSION_NUM or 0) >= 0x80400 or (valkey and valkey.VALKEY_VERSION_NUM or 0) >= 0x90100
  if ttl_ms and not at_once then step = 2 end
  for first = 1, #records, step do
    local last = math.min(#records, first + step - 1)
    local some = {unpack(records, first, last)}
    if not ttl_ms then
      redis.call('MSET', unpack(some))
    elseif not at_once then
      redis.call('SET', some[1], some[2], 'PX', ttl_ms)
    else
      some[#some + 1], some[#some + 2] = 'PX', ttl_ms
      redis.call('MSETEX', (last - first + 1) / 2, unpack(some))
    end
  end
end

-- Records that are written at the script's end, all at once: many cost a third of each by itself. Nothing may read
-- them again before.
do
  local written, size = {}, 0
  function many.write_raw(name, raw)
    written[size + 1], written[size + 2] = name, raw
    size = size + 2
  end
  function many.write(id, fields) many.write_raw(K.job .. id, pack(fields)) end
  function many.write_all()
    in_chunks(written, function(...) redis.call('MSET', ...) end)
    written, size = {}, 0
  end
end

-- The records of several jobs, as they lie there, false for one that has none; and their names.
local function records_of(ids)
  local names, prefix = {}, K.job
  for n, id in ipairs(ids) do names[n] = prefix .. id end
  return #names > 0 and redis.call('MGET', unpack(names)) or {}, names
end

-- The same at once for many, as what gives the fields of the n-th.
local function reading(ids)
  local raws = {}
  for first = 1, #ids, 1000 do
    for _, raw in ipairs(records_of({unpack(ids, first, math.min(#ids, first + 999))})) do raws[#raws + 1] = raw end
  end
  return function(n)
    local raw = raws[n]
    return raw and not newer(raw:match('^%d+')) and parse(raw) or nil
  end
end

local HISTORY, HISTORY_KEPT, HISTORY_BYTES = '\30', 10, 140

-- Note an attempt that issued nothing; our own id of its request is made of the batch's, request is the vendor's.
local function remember_attempt(fields, batch, status, request, code)
  local lines = {}
  for line in fields[FIELD.history]:gmatch('[^' .. HISTORY .. ']+') do lines[#lines + 1] = line end
  lines[#lines + 1] = (int(NOW) .. ' ' .. batch .. ' ' .. status .. ' ' .. request .. ' ' .. (code ~= '' and code or '-')):sub(1, HISTORY_BYTES)
  fields[FIELD.history] = table.concat(lines, HISTORY, math.max(1, #lines - HISTORY_KEPT + 1))
end
