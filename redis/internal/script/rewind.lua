#!lua flags=allow-oom
-- Sets the last claimed tick of a schedule back: a clock that ran ahead had claimed it.
--
-- KEYS  ticks
-- ARGV  field: the schedule's; claimed: the tick that was claimed; instead: the tick that
--       replaces it; both of 20 digits
-- Returns 1, or 0 if another tick is the last one claimed.
local claimed = redis.call('HGET', K.ticks, A.field)
if not claimed or string.sub(claimed, 1, 20) ~= A.claimed then
  return 0
end
redis.call('HSET', K.ticks, A.field, A.instead .. string.sub(claimed, 21))
return 1
