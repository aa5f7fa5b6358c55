-- Records of jobs. One is a string of fields, apart by a byte that no field holds; empty ones at its end are
-- left out. FIELD, FIELDS, SEPARATOR and STATE come from store/record.py, which writes records as well.
-- Every script reads the version first, and leaves alone what only a newer program can read.
local ONE, SKIPPED = '([^' .. SEPARATOR .. ']*)' .. SEPARATOR, '[^' .. SEPARATOR .. ']*' .. SEPARATOR
local HEAD = '^' .. ONE .. SKIPPED:rep(FIELD.state - 2) .. ONE:rep(5)

-- One that says no version is no record that we know: it is left alone as well.
local function newer(version) return (tonumber(version or nil) or math.huge) > RECORD_VERSION end

-- Of the first fields: version, state, urgent, run, badge, customer.
local function head(raw) return raw:match(HEAD) end

-- A record as Python writes it comes without its first fields: the times are the server's. "accepted" begins
-- behind both of them, the others with "enqueued_at".
local function accepted(rest) return RECORD_VERSION .. SEPARATOR .. SEPARATOR .. int(NOW) .. SEPARATOR .. rest end
local function waiting(rest) return RECORD_VERSION .. SEPARATOR .. SEPARATOR .. rest end
local function ended(rest) return RECORD_VERSION .. SEPARATOR .. int(NOW) .. SEPARATOR .. rest end

local function parse(raw)
  local fields, n = {}, 0
  for value in (raw .. SEPARATOR):gmatch('([^' .. SEPARATOR .. ']*)' .. SEPARATOR) do
    n = n + 1
    fields[n] = value
  end
  for place = n + 1, FIELDS do fields[place] = '' end
  return fields
end

local function pack(fields)
  local last = FIELDS
  while fields[last] == '' do last = last - 1 end
  return table.concat(fields, SEPARATOR, 1, math.max(last, FIELD.customer + 1))
end

-- The fields of a job; nil if it has no record, or one that only a newer program can read.
local function read(id)
  local raw = redis.call('GET', K.job .. id)
  if not raw or newer(raw:match('^%d+')) then return nil end
  return parse(raw)
end

local function write_raw(id, raw, ttl_ms)
  if ttl_ms then
    redis.call('SET', K.job .. id, raw, 'PX', ttl_ms)
  else
    redis.call('SET', K.job .. id, raw)
  end
end

local function write(id, fields, ttl_ms) write_raw(id, pack(fields), ttl_ms) end

-- The records of several jobs, as they lie there, false for one that has none.
local function records_of(ids)
  local names = {}
  for n, id in ipairs(ids) do names[n] = K.job .. id end
  return #names > 0 and redis.call('MGET', unpack(names)) or {}
end

local HISTORY, HISTORY_KEPT, HISTORY_BYTES = '\30', 10, 140

-- Note an attempt that issued nothing; our own id of its request is made of the batch's, request is the vendor's.
local function remember_attempt(fields, batch, status, request, code)
  local lines = {}
  for line in fields[FIELD.history]:gmatch('[^' .. HISTORY .. ']+') do lines[#lines + 1] = line end
  lines[#lines + 1] = (int(NOW) .. ' ' .. batch .. ' ' .. status .. ' ' .. request .. ' ' .. (code ~= '' and code or '-')):sub(1, HISTORY_BYTES)
  fields[FIELD.history] = table.concat(lines, HISTORY, math.max(1, #lines - HISTORY_KEPT + 1))
end
