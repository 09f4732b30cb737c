-- Takes runs away from where they wait. This is no script: it stands in scripts instead of
-- the comment that includes it, behind waiting.lua.

-- takes an entry of the backlogs away, and has what waits behind it looked at; undo is
-- for when it stays
local function removeWaiting(entry, undo)
  undo = undo or function() end
  local run = waiting().read(string.sub(entry, 50))
  for _, limit in ipairs(run and run.limits or {}) do
    must(undo, 'ZADD', K.recheck, 0, limit.hash)
  end
  return must(undo, 'ZREM', K.waiting, entry) > 0
end
