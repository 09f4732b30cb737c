-- Counts runs at limits that bound how many are in flight. This is no script: it stands in
-- scripts instead of the comment that includes it, behind backlogs.lua.

-- counts a run at its limits on runs in flight again; only at the first n limits if n is
-- given
local function hold(stored, n)
  local run = backlogs().read(stored)
  for i, limit in ipairs(run and run.limits or {}) do
    if limit.per == 0 and limit.counts and i <= (n or i) then
      redis.pcall('HINCRBY', K.running, limit.key, 1)
    end
  end
end

-- counts a run no more that is not in flight any longer; returns whether another run may
-- start instead
local function release(stored)
  local run, opened = backlogs().read(stored), false
  for i, limit in ipairs(run and run.limits or {}) do
    if limit.per == 0 and limit.counts then
      local function undo()
        hold(stored, i - 1)
      end
      if must(undo, 'EXISTS', K.rounds) == 1 then
        must(undo, 'ZADD', K.recheck, 0, limit.hash)
        opened = true
      end
      if must(undo, 'HINCRBY', K.running, limit.key, -1) <= 0 then
        redis.pcall('HDEL', K.running, limit.key)
      end
    end
  end
  return opened
end
