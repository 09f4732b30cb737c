-- Puts runs back. This is no script: it stands in scripts instead of the comment that
-- includes it, behind backlogs.lua.

-- puts a run back at the head of its ready list, or of its backlog; returns its entry if it
-- is in a backlog
local function putBack(list, stored)
  if hasPolicies(stored) then
    return backlogs().putBack(list, K.ready[list], stored)
  end
  redis.call('LPUSH', K.ready[list], stored)
end

-- undoes putBack, which returned the entry
local function takeAway(list, entry)
  if entry then
    redis.pcall('ZREM', K.backlogs, entry)
  else
    redis.pcall('LPOP', K.ready[list])
  end
end
