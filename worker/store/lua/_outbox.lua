-- What has ended, for its reader, if the org has one (outbox.lua): ids in the order in which they ended. Then it is
-- the reader who decides when a record expires, by acknowledging it.
local its_reader, endings = nil, {}

local function has_reader()
  if its_reader == nil then its_reader = redis.call('EXISTS', K.reader) == 1 end
  return its_reader
end

-- How long a record is kept from its end on, ms; nil: until its reader has it.
local function kept_ms(ttl_ms) return not has_reader() and ttl_ms or nil end

-- A job has ended, or a dead letter needs nobody any more: issued, dead, discarded, replaced, undone.
local function note_end(id, how)
  if has_reader() then endings[#endings + 1] = id .. ' ' .. how .. ' ' .. int(NOW) end
end

local function write_outbox()
  in_chunks(endings, function(...) redis.call('RPUSH', K.outbox, ...) end)
end
