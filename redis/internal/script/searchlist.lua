#!lua
-- Reads a page of a list behind the entries that were read before. Others take from its head,
-- push to its tail and remove in between: so it looks for the last entries that were read.
--
-- KEYS  place: a list
-- ARGV  toward: '-1' if the entries that were read move to the head, as of a ready list; '1' if
--       they move to the tail, as dead letters do
--       at, behind: the index at which the entry stood up to which the list was read, and how many
--       entries were behind it; -1 and 0 to read from the head
--       near: '1' to look on both sides of that place, '0' only in the direction of toward
--       most, bytes: at most so many entries, and no more once there are so many bytes
--       then the anchors of some entries that were read and stayed (anchor.lua). Without any it
--       reads those that are behind the place if nothing was added to or removed from the tail
-- Returns an array of
--       1. 1, or 0 if no anchor was found: then the next call looks on from 2. and 3.; or -1 if none
--          is there
--       2. the index of the last entry that was read; of 0 of the last one that was looked at
--       3. how many entries are behind it
--       4. how many entries were looked at
--       5. the entries
--       One call looks at 1,500 entries and a mebibyte for the anchors.
-- include pages.lua
-- include anchor.lua
local toward, at, most = tonumber(A.toward), tonumber(A.at), tonumber(A.most)
if redis.call('TYPE', K.place).ok == 'none' then
  return {1, -1, 0, 0, {}}
end
local length = redis.call('LLEN', K.place)
local anchors, looked = {}, 0
for i = #A + 1, #ARGV do
  anchors[ARGV[i]] = true
end

-- The index of an anchor between two indexes, nil if there is none; and the last one that was
-- looked at.
local function look(from, to, step)
  local found
  local next = readEntries('LRANGE', K.place, from, to, step, 1048576, function(entry, index)
    looked = looked + 1
    if anchors[anchorOf(entry, toward > 0)] then
      found = index
    end
    return found
  end)
  return found, next
end

if at >= 0 and #ARGV == #A then
  at = math.max(-1, length - 1 - tonumber(A.behind))
elseif at >= 0 then
  local function within(index)
    return math.max(0, math.min(length - 1, index))
  end
  -- Where it stands if nothing was taken at the head, and if nothing was pushed to the tail.
  local one, other = at, length - 1 - tonumber(A.behind)
  local first = within(toward < 0 and math.min(one, other) or math.max(one, other))
  local last = toward < 0 and 0 or length - 1
  local found, next = look(first, within(first + toward * 999), toward)
  if not found and A.near == '1' then
    found = look(within(first - toward), within(first - toward * 500), -toward)
  end
  if not found then
    local over = (last - next) * toward < 0
    next = within(next)
    return {over and -1 or 0, next, length - 1 - next, looked, {}}
  end
  at = found -- and behind it those that were read later, if they are there
  readEntries('LRANGE', K.place, found + 1, math.min(found + #ARGV - #A, length - 1), 1, 1048576, function(entry, index)
    at = anchors[anchorOf(entry, toward > 0)] and index or at
  end)
end

local page, full = {}, 0
local next = readEntries('LRANGE', K.place, at + 1, math.min(at + most, length - 1), 1, tonumber(A.bytes), function(entry)
  full = full + 1
  page[full] = entry
end)
return {1, next - 1, length - next, looked, page}
