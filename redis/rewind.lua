#!lua flags=allow-oom
-- Sets the last claimed tick of a schedule back, which a clock that ran ahead had
-- claimed.
--
-- KEYS  1 ticks
-- ARGV  1 the schedule's field, 2 the tick that was claimed, 3 the tick instead of it,
--       both of 20 digits
-- Returns 1, or 0 if another tick is the last one claimed.
local claimed = redis.call('HGET', K.ticks, A.field)
if not claimed or string.sub(claimed, 1, 20) ~= A.claimed then
  return 0
end
redis.call('HSET', K.ticks, A.field, A.instead .. string.sub(claimed, 21))
return 1
