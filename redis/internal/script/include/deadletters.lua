-- Adds dead letters, and trims the oldest beyond the cap. This is no script: it stands in
-- scripts instead of the comment that includes it, behind clock.lua.

-- the entry of the dead list for a failure with its stored run
local function deadLetter(failureAndRun)
  return string.format('%013.0f', now()) .. failureAndRun
end

-- trims the dead list of this length to the cap; returns how many letters were trimmed
local function trimOldest(length)
  local over = length - tonumber(A.maxDead)
  if over <= 0 then
    return 0
  end
  redis.call('INCRBY', K.trimmed, over) -- first: after an error in between it is too high, not too low
  redis.call('LTRIM', K.dead, 0, tonumber(A.maxDead) - 1)
  return over
end
