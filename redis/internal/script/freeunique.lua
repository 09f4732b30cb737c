#!lua flags=allow-oom
-- Frees the unique key of a run that starts, while the caller still holds the run. The key's
-- owner stays for ten seconds, marked as ended, as at the run's end (operations.lua).
--
-- KEYS  batch; done: its bitmap of finished runs; unique: the key
-- ARGV  index: the run's in the batch; id: the run's
-- Returns 1, or 0 if the caller holds the run no longer.
if redis.call('EXISTS', K.batch) == 0 or redis.call('GETBIT', K.done, A.index) == 1 then
  return 0
end
local owner = redis.call('GET', K.unique)
if owner and string.sub(owner, 1, #A.id + 1) == A.id .. ' ' then
  redis.call('SET', K.unique, ' ' .. owner, 'PX', 10000)
end
return 1
