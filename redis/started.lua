#!lua flags=allow-oom
-- Notes in their records that runs of a batch are running, while the batch is
-- still the caller's.
--
-- KEYS  1 the slot's batch, 2.. records
-- ARGV  none
-- Returns the number of records noted.
local n = 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 1 then
      redis.call('HSET', KEYS[i], 's', 'running')
      n = n + 1
    end
  end
end
return n
