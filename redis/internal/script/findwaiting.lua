#!lua
-- Looks for a run where runs wait. It begins at the tail, where a run keeps its place while
-- others are taken from the head.
--
-- KEYS  place: a list or sorted set
-- ARGV  id: the run's; looked: how many entries at the tail earlier calls looked at;
--       before: how many bytes of an entry come before the stored run
-- Returns an array of
--       1. how many entries were looked at then, -1 for all
--       2. the entry, '' if it was not found
--       One call looks at 1,000 entries at most, and at about a mebibyte, which takes the
--       server some 3 ms. It can be ten entries more, if large ones are behind small ones:
--       far from the tail it takes long to read each by itself.
local id = string.char(#A.id) .. A.id
local from, at = tonumber(A.looked), tonumber(A.before) + 9
local kind = redis.call('TYPE', K.place).ok
if kind ~= 'list' and kind ~= 'zset' then
  return {-1, ''}
end
local length = redis.call(kind == 'list' and 'LLEN' or 'ZCARD', K.place)
local last, read, size = math.min(length, from + 1000), 0, 1
while from < last and read < 1048576 do
  local page = redis.call(kind == 'list' and 'LRANGE' or 'ZRANGE', K.place, -from - size, -from - 1)
  local largest = 1
  for i = #page, 1, -1 do
    read, largest = read + #page[i], math.max(largest, #page[i])
    if string.sub(page[i], at, at + #id - 1) == id then
      return {from, page[i]}
    end
  end
  from = from + size
  -- more of small ones
  size = math.min(10, size * 4, math.max(1, math.floor((1048576 - read) / largest)))
end
return {from < length and from or -1, ''}
