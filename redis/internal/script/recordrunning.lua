#!lua flags=allow-oom
-- Sets the state running in the records of runs, while the caller still holds their batch. It
-- changes only the states queued and delayed.
--
-- KEYS  batch; done: its bitmap of finished runs; then records
-- ARGV  started: when the batch was taken, in ms since the epoch, 13 digits; host: where the runs
--       are executed, behind its length in a byte, less than 128; then for each record the index
--       of its run in the batch
-- Returns 0.
-- include read.lua
if redis.call('EXISTS', K.batch) == 1 then
  for _ = 1, #ARGV - #A do
    local key, index = nextKey(), nextArg()
    local record = redis.call('GET', key)
    local state = record and string.sub(record, 1, 1)
    if (state == 'q' or state == 'd') and redis.call('GETBIT', K.done, index) == 0 then
      local map, n = 15, string.byte(record, 15) or 128
      if n < 128 then -- the host of before
        map = 16 + n
      end
      redis.call('SET', key, 'r' .. A.started .. A.host .. string.sub(record, map), 'KEEPTTL')
    end
  end
end
return 0
