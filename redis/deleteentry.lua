#!lua flags=allow-oom
-- Deletes a schedule made at run time.
--
-- KEYS  1 entries, 2 number of their changes, 3 ticks
-- ARGV  1 id
-- Returns 1, or 0 when there is none.
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old then
  return 0
end
redis.call('INCRBY', KEYS[2], 1)
redis.call('HDEL', KEYS[1], ARGV[1])
local task = string.sub(old, 37, 36 + (tonumber(string.sub(old, 33, 36)) or 0))
redis.call('HDEL', KEYS[3], task .. ' ' .. ARGV[1])
return 1
