#!lua
-- Reads the last claimed ticks of tasks of queues.
--
-- KEYS  for each queue: ticks
-- ARGV  for each queue: how many tasks of it, and their names
-- Returns for each queue an array of their ticks, nil for those that have none; or an error if the
-- key cannot be read.
local found, at = {}, 1
for i, key in ipairs(KEYS) do
  local n = tonumber(ARGV[at])
  local ticks = {}
  if n > 0 then
    ticks = redis.pcall('HMGET', key, unpack(ARGV, at + 1, at + n))
  end
  found[i] = ticks.err or ticks
  at = at + 1 + n
end
return found
