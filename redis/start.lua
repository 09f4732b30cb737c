#!lua flags=allow-oom
-- Frees the unique key of a run that starts, while the batch is still the caller's.
-- What is left of the key for ten seconds is as at the run's end (finish.lua, u).
--
-- KEYS  1 the slot's batch, 2 its bitmap of finished runs, 3 the unique key
-- ARGV  1 the run's index in the batch, 2 the run's id
-- Returns 1, or 0 when the caller holds the run no longer.
if redis.call('EXISTS', K.batch) == 0 or redis.call('GETBIT', K.done, A.index) == 1 then
  return 0
end
local owner = redis.call('GET', K.unique)
if owner and string.sub(owner, 1, #A.id + 1) == A.id .. ' ' then
  redis.call('SET', K.unique, ' ' .. owner, 'PX', 10000)
end
return 1
