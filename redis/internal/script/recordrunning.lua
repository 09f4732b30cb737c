#!lua flags=allow-oom
-- Sets the state running in the records of runs, while the caller still holds their batch. It
-- changes only the states queued and delayed.
--
-- KEYS  batch; done: its bitmap of finished runs; then records
-- ARGV  for each record the index of its run in the batch
-- Returns 0.
-- include read.lua
if redis.call('EXISTS', K.batch) == 1 then
  for _ = 1, #ARGV do
    local record, index = nextKey(), nextArg()
    local state = redis.call('GETRANGE', record, 0, 0)
    if (state == 'q' or state == 'd') and redis.call('GETBIT', K.done, index) == 0 then
      redis.call('SETRANGE', record, 0, 'r')
    end
  end
end
return 0
