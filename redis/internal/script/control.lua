#!lua flags=allow-oom
-- Pauses a queue or disables a task, or undoes it and wakes the consumers that wait.
--
-- KEYS  paused, disabled, enabling; wake[2]: io, cpu
-- ARGV  action: pause, resume, disable or enable; task: of the last two
-- Returns 0.
-- include watched.lua
local what, task = A.action, A.task
if what == 'pause' then
  redis.call('SET', K.paused, '1')
elseif what == 'resume' then
  redis.call('DEL', K.paused)
elseif what == 'disable' then
  redis.call('SADD', K.disabled, task)
  redis.call('ZREM', K.enabling, task)
elseif redis.call('SISMEMBER', K.disabled, task) == 1 then
  redis.call('ZADD', K.enabling, '+inf', task) -- takes bring back what they deferred
  redis.call('SREM', K.disabled, task)
end
if what == 'resume' or what == 'enable' then
  for kind = 1, 2 do
    -- A key of a wrong type costs a wake-up, and no more: consumers also look by themselves.
    redis.pcall('ZADD', K.wake[kind], 0, '1')
    local watched = watchedOf(K.wake[kind])
    if redis.pcall('EXISTS', watched) == 1 then
      sendToken(K.wake[kind], watched)
    end
  end
end
return 0
