#!lua flags=allow-oom
-- Pauses a queue or disables a task, or undoes it and wakes who waits.
--
-- KEYS  1 paused, 2 disabled, 3 enabling, 4-5 wake sets io, cpu
-- ARGV  1 pause, resume, disable or enable, 2 the task of the last two
-- Returns 0.
-- include wake.lua
local what, task = ARGV[1], ARGV[2]
if what == 'pause' then
  redis.call('SET', KEYS[1], '1')
elseif what == 'resume' then
  redis.call('DEL', KEYS[1])
elseif what == 'disable' then
  redis.call('SADD', KEYS[2], task)
  redis.call('ZREM', KEYS[3], task)
elseif redis.call('SISMEMBER', KEYS[2], task) == 1 then
  redis.call('ZADD', KEYS[3], '+inf', task) -- takes bring back what they moved aside
  redis.call('SREM', KEYS[2], task)
end
if what == 'resume' or what == 'enable' then
  for i = 4, 5 do
    redis.pcall('ZADD', KEYS[i], 0, '1')
    wakeBy(KEYS[i])
  end
end
return 0
