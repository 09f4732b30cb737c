#!lua flags=allow-oom
-- Spares runs the delivery that ended with their session's lease, but not with the life of
-- its consumer.
--
-- KEYS  raised: the ids of the session's runs whose deliveries recoveries raised; then for
--       each run the number of deliveries that it is spared
-- ARGV  keep: ms to keep these; listed: '1' for runs that raised has, once each, '0' for
--       runs that the session gave back; then the id of each run
-- Returns how many runs were spared a delivery.
-- include read.lua
local n = 0
for _ = 1, #ARGV - #A do
  local spared, id = nextKey(), nextArg()
  if A.listed == '0' or redis.call('SISMEMBER', K.raised, id) == 1 then
    redis.call('INCRBY', spared, 1)
    redis.call('PEXPIRE', spared, A.keep)
    redis.call('SREM', K.raised, id)
    n = n + 1
  end
end
return n
