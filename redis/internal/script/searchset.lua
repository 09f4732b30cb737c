#!lua
-- Reads a page of a sorted set of runs, behind the run that was read last. This run need not be
-- there any more.
--
-- KEYS  place: a sorted set
-- ARGV  which: 'due' for runs with scores up to now, 'later' for those with scores from then on,
--       'all', or 'lex' if all scores are 0
--       score, opens: of the run that was read last; opens is empty to begin
--       most, bytes: at most so many entries, and no more once there are so many bytes
-- Returns an array of
--       1. 1 if there are more, else 0
--       2. in turn an entry and its score
-- include clock.lua
-- include pages.lua
local most, bytes = tonumber(A.most), tonumber(A.bytes)
if redis.call('TYPE', K.place).ok == 'none' then
  return {0, {}}
end
local ms = string.format('%.0f', now())
local from, to = 0, redis.call('ZCARD', K.place)

if A.which == 'lex' then
  from = redis.call('ZLEXCOUNT', K.place, '-', A.opens == '' and '-' or '[' .. A.opens .. '\255')
elseif A.which == 'due' then
  to = redis.call('ZCOUNT', K.place, '-inf', ms)
elseif A.which == 'later' then
  from = redis.call('ZCOUNT', K.place, '-inf', ms)
end

-- whether an entry stands behind what opens the last one
local function isBehind(entry)
  for i = 1, #A.opens do
    local a, b = string.byte(entry, i), string.byte(A.opens, i)
    if a ~= b then
      return a and a > b or false
    end
  end
  return false
end

if A.opens ~= '' and A.which ~= 'lex' then
  -- Of the entries with this score, the first that stands behind it.
  local low = redis.call('ZCOUNT', K.place, '-inf', '(' .. A.score)
  local high = low + redis.call('ZCOUNT', K.place, A.score, A.score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = redis.call('ZRANGE', K.place, middle, middle)[1]
    if isBehind(entry) then
      high = middle
    else
      low = middle + 1
    end
  end
  from = math.max(from, low)
end

local page = {}
local next = readEntries('ZRANGE', K.place, from, math.min(from + most, to) - 1, 1, bytes, function(entry)
  page[#page + 1] = entry
  page[#page + 1] = redis.call('ZSCORE', K.place, entry)
end)
return {next < to and 1 or 0, page}
