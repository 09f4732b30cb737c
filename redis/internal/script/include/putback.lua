-- Puts runs back. This is no script: it stands in scripts instead of the comment that
-- includes it, behind waiting.lua.

-- puts a run back at the head of its ready list, or of its line; returns its entry if it is
-- in a line
local function putBack(lane, element)
  if hasPolicies(element) then
    return waiting().back(lane, K.ready[lane], element)
  end
  redis.call('LPUSH', K.ready[lane], element)
end

-- takes it away from there again; entry is what putBack returned
local function takeAway(lane, entry)
  if entry then
    redis.pcall('ZREM', K.waiting, entry)
  else
    redis.pcall('LPOP', K.ready[lane])
  end
end
