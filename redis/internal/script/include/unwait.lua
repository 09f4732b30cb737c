-- Removes runs from backlogs. This is no script: it stands in scripts instead of
-- the comment that includes it, behind waiting.lua.

-- removes an entry of waiting, and has the backlogs of its limits rechecked
local function removeWaiting(entry)
  local run = waiting().read(waiting().storedRunOf(entry))
  for _, limit in ipairs(run and run.limits or {}) do
    redis.call('ZADD', K.recheck, 0, limit.hash)
  end
  return redis.call('ZREM', K.waiting, entry) > 0
end
