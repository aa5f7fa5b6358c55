#!lua flags=allow-oom
-- Finish what discarding many at once left to be done (discard_group.lua), for some of them: their records expire, and
-- what no call may ever have applied is forgotten, so that once its record has expired it can be imported again. Until
-- then it is known by its record, so that nobody sees how late this comes.
-- On a full server as well.
-- Uses     clock record memory discarded
-- KEYS[1]  what all keys of the org begin with
-- Returns  how many were looked at; 0 once there are none
-- Repeated: goes on with the next.
local entry = redis.call('LPOP', K.discarded)
if not entry then return 0 end
local expires_at, ids = entry:match('^%S+'), {}
for id in entry:gmatch(' (%S+)') do ids[#ids + 1] = id end
local raws, names = records_of(ids)

-- Somebody may have forgotten it since, and then it may have come again; or its badge was issued after all.
for n, id in ipairs(ids) do
  local fields = raws[n] and not newer(raws[n]:match('^%d+')) and parse(raws[n])
  if fields and is_discarded(id, fields) then
    if is_to_be_forgotten(id, fields) then forget(id) end
    redis.call('PEXPIREAT', names[n], expires_at)
  end
end
write_remembered()
return #ids
