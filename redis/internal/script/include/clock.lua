-- Reads the server's clock, once in a call. This is no script: it stands in scripts
-- instead of the comment that includes it.
local clock

-- seconds since the epoch, and the microseconds behind them
local function serverTime()
  clock = clock or redis.call('TIME')
  return clock[1], clock[2]
end

-- milliseconds since the epoch
local function now()
  local seconds, micros = serverTime()
  return seconds * 1000 + math.floor(micros / 1000)
end
