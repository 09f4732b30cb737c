#!lua flags=allow-oom
-- Deletes a schedule made at run time.
--
-- KEYS  schedules; changes: their number; ticks
-- ARGV  id: the schedule's
-- Returns 1, or 0 when there is none.
local old = redis.call('HGET', K.schedules, A.id)
if not old then
  return 0
end
redis.call('INCRBY', K.changes, 1)
redis.call('HDEL', K.schedules, A.id)
local task = string.sub(old, 37, 36 + (tonumber(string.sub(old, 33, 36)) or 0))
redis.call('HDEL', K.ticks, task .. ' ' .. A.id)
return 1
