#!lua flags=allow-oom
-- Adds to tallies of one hour.
--
-- KEYS  tally: a hash of a task to the series of its minutes in the hour. A minute is its number
--       in a byte, the length of its counts in two bytes, and the counts: a MessagePack array of,
--       in turn, the number of a count and the count
-- ARGV  ends: when the hash expires, in ms since the epoch; longest: it adds nothing if that is
--       more ms from now, by the clock of a consumer that is wrong; highest: the highest number of
--       a count; then for each tally the task, the minute, and its counts
-- Returns 0.
-- include clock.lua
-- include read.lua
local highest = tonumber(A.highest)

-- returns two arrays of counts as one
local function sum(stored, more)
  local total, both = {}, {cmsgpack.unpack(stored), cmsgpack.unpack(more)}
  for _, counts in ipairs(both) do
    for i = 1, #counts, 2 do
      total[counts[i]] = (total[counts[i]] or 0) + counts[i + 1]
    end
  end
  local list = {}
  for number = 0, highest do
    if total[number] then
      list[#list + 1] = number
      list[#list + 1] = total[number]
    end
  end
  return cmsgpack.pack(list)
end

-- returns a series with a minute more, or with more in the minute
local function add(series, minute, more)
  local at, ends = 1, #series + 1 -- the minute is there, and what follows begins at ends
  while at <= #series do
    local high, low = string.byte(series, at + 1, at + 2)
    local behind = low and at + 3 + high * 256 + low
    if not behind or behind > #series + 1 then
      break -- what is left is damaged, and is replaced
    end
    if string.byte(series, at) == minute then
      local ok, both = pcall(sum, string.sub(series, at + 3, behind - 1), more)
      more = ok and both or more -- else it is damaged
      ends = behind
      break
    end
    at = behind
  end
  return string.sub(series, 1, at - 1) .. string.char(minute) .. struct.pack('>I2', #more) .. more
    .. string.sub(series, ends)
end

local left = tonumber(A.ends) - now()
if left > 0 and left <= tonumber(A.longest) then
  for _ = 1, (#ARGV - #A) / 3 do
    local task, minute, more = nextArg(), tonumber(nextArg()), nextArg()
    redis.call('HSET', K.tally, task, add(redis.call('HGET', K.tally, task) or '', minute, more))
  end
  redis.call('PEXPIRE', K.tally, left)
end
return 0
