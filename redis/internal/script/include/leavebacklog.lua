-- Removes runs from backlogs. This is no script: it stands in scripts instead of
-- the comment that includes it, behind backlogs.lua.

-- removes an entry of backlogs, and has the backlogs of its limits rechecked
local function leaveBacklog(entry)
  local run = backlogs().read(backlogs().storedRunOf(entry))
  for _, limit in ipairs(run and run.limits or {}) do
    redis.call('ZADD', K.recheck, 0, limit.hash)
  end
  return redis.call('ZREM', K.backlogs, entry) > 0
end
