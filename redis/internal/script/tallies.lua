#!lua
-- Reads the tallies of hours of queues.
--
-- KEYS  for each hour of a queue: tally
-- ARGV  room: how many series it reads at most
-- Returns for each key an array of its tasks and their series in turn; the number of its tasks if
-- they are more than room, less those that were read before it; or an error if the key cannot be
-- read.
local room = tonumber(A.room)
local found = {}
for i, key in ipairs(KEYS) do
  local n = redis.pcall('HLEN', key)
  if type(n) == 'table' then
    found[i] = n.err
  elseif n > room then
    found[i] = n
  elseif n == 0 then
    found[i] = {}
  else
    room = room - n
    found[i] = redis.call('HGETALL', key)
  end
end
return found
