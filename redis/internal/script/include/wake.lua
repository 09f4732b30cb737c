-- Wakes a consumer. This is no script: it stands in scripts instead of the comment
-- that includes it.

-- include watched.lua

-- A key of a wrong type costs a wake-up, and no more: consumers also look by themselves.
local function wake(kind)
  local watched = watchedOf(K.wake[kind])
  local n = redis.pcall('EXISTS', K.idle[kind], watched)
  if n == 0 then
    return -- all are busy
  end
  local idle = n == 2 or redis.pcall('EXISTS', K.idle[kind]) == 1
  if idle then
    redis.pcall('ZADD', K.wake[kind], 0, '1')
  end
  if n == 2 or not idle then
    sendToken(K.wake[kind], watched)
  end
end
