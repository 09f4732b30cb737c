-- Adds dead letters, and drops the oldest beyond the cap. This is no script: it stands in
-- scripts instead of the comment that includes it, behind clock.lua.

-- the entry of the dead list for a failure with its stored run
local function deadLetter(failureAndRun)
  return string.format('%013.0f', now()) .. failureAndRun
end

-- drops what is beyond the cap where there are so many; returns how many were dropped
local function dropOldest(length)
  local over = length - tonumber(A.maxDead)
  if over <= 0 then
    return 0
  end
  redis.call('INCRBY', K.dropped, over) -- first: what is counted twice is noticed, what is not counted is not
  redis.call('LTRIM', K.dead, 0, tonumber(A.maxDead) - 1)
  return over
end
