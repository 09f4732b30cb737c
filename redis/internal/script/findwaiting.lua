#!lua
-- Finds a run where runs wait, from the tail on, which stays where it is while others
-- take from the head.
--
-- KEYS  place: a list or sorted set
-- ARGV  id: the run's; looked: how many stored runs at the tail earlier calls looked at;
--       before: how many bytes of an entry come before the stored run
-- Returns how many stored runs are looked at then, -1 after the last one, and the
--       entry, '' for none. One call looks at 1,000 stored runs at most, and at about
--       a mebibyte, which takes the server some 3 ms. It can be ten stored runs more,
--       where large ones are behind small ones: to look at each by itself takes
--       long, far from the tail.
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
