#!lua flags=allow-oom
-- Stores a session's report of its runs, and returns the runs that are to end. A report of a
-- task that started in the future is of a clock that ran ahead, and is replaced.
--
-- KEYS  last; cancels: the session's; then for each run that reports progress: its batch,
--       the batch's bitmap of finished runs, its record, its progress
-- ARGV  keep: ms to keep progress and cancels; tasks: their number; for each its name, and how
--       its latest run ended; then for each run its index in the batch, and its progress
-- Returns "number:index" of each run whose end was asked for.
-- include clock.lua
-- include read.lua
for _ = 1, tonumber(A.tasks) do
  local task, ended = nextArg(), nextArg()
  local before = redis.call('HGET', K.last, task)
  local started = string.sub(ended, 1, 20)
  local earlier = not before or string.sub(before, 1, 20) <= started
  local latest = not earlier and (tonumber((serverTime())) + 60) * 1e9 -- that can have started
  if earlier or (tonumber(started) or 0) <= latest and (tonumber(string.sub(before, 1, 20)) or 0) > latest then
    redis.call('HSET', K.last, task, ended)
  end
end
for _ = 1, (#KEYS - #K) / 4 do
  local batch, done, record, progress = nextKey(), nextKey(), nextKey(), nextKey()
  local index, told = nextArg(), nextArg()
  if redis.call('EXISTS', batch, record) == 2 and redis.call('GETBIT', done, index) == 0 then
    redis.call('SET', progress, told, 'PX', A.keep)
  end
end
if redis.call('EXISTS', K.cancels) == 0 then
  return {}
end
redis.call('PEXPIRE', K.cancels, A.keep)
return redis.call('HKEYS', K.cancels)
