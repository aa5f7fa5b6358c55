-- Of which badges there are jobs: with each of them a customer can be looked for in what is remembered.
local MOST_BADGES = 10000 -- one more says that there are others

-- A badge's id in one case, as it counts; other texts are no ids of the vendor's, and stay as they are.
local function one_case(badge) return #badge == 24 and not badge:find('%X') and badge:lower() or badge end

local function note_badges(badges)
  if #badges > 0 and redis.call('SCARD', K.badges) <= MOST_BADGES then redis.call('SADD', K.badges, unpack(badges)) end
end
