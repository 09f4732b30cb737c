#!lua flags=allow-oom
-- Stores what a session says of its runs, and tells which are to end. What is
-- noted of a run that is still to start was noted by a clock that ran ahead.
--
-- KEYS  1 last, 2 the session's cancels; then for each run that tells of its
--       progress its batch, the bitmap of finished runs, its record, its progress
-- ARGV  1 ms to keep what is noted, 2 number of tasks, for each: its name, how its
--       latest run ended; then for each run its index in the batch, its progress
-- Returns "slot:index" of each run whose end was asked for.
-- include read.lua
for _ = 1, tonumber(A.tasks) do
  local task, ended = nextArg(), nextArg()
  local before = redis.call('HGET', K.last, task)
  local started = string.sub(ended, 1, 20)
  local earlier = not before or string.sub(before, 1, 20) <= started
  local latest = not earlier and (tonumber(redis.call('TIME')[1]) + 60) * 1e9 -- that can have started
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
