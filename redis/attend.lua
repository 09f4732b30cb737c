#!lua flags=allow-oom
-- Stores what a session says of its runs, and tells which are to end. What is
-- noted of a run that is still to start was noted by a clock that ran ahead.
--
-- KEYS  1 last, 2 the session's cancels; then for each run that tells of its
--       progress its batch, the bitmap of finished runs, its record, its progress
-- ARGV  1 ms to keep what is noted, 2 number of tasks, for each: its name, how its
--       latest run ended; then for each run its index in the batch, its progress
-- Returns "slot:index" of each run whose end was asked for.
for p = 3, 2 * ARGV[2] + 1, 2 do
  local before = redis.call('HGET', KEYS[1], ARGV[p])
  local started = string.sub(ARGV[p + 1], 1, 20)
  local earlier = not before or string.sub(before, 1, 20) <= started
  local latest = not earlier and (tonumber(redis.call('TIME')[1]) + 60) * 1e9 -- that can have started
  if earlier or (tonumber(started) or 0) <= latest and (tonumber(string.sub(before, 1, 20)) or 0) > latest then
    redis.call('HSET', KEYS[1], ARGV[p], ARGV[p + 1])
  end
end
local p = 3 + 2 * ARGV[2]
for k = 3, #KEYS, 4 do
  if redis.call('EXISTS', KEYS[k], KEYS[k + 2]) == 2 and redis.call('GETBIT', KEYS[k + 1], ARGV[p]) == 0 then
    redis.call('SET', KEYS[k + 3], ARGV[p + 1], 'PX', ARGV[1])
  end
  p = p + 2
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  return {}
end
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return redis.call('HKEYS', KEYS[2])
