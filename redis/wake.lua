-- Wakes a consumer. This is no script: it stands in scripts instead of the comment
-- that includes it.
--
-- A consumer of one queue waits for its wake set. A consumer of several on one server
-- waits for one list for them all, <prefix>:woken:<kind>: it leaves an element in
-- watched:<kind> of each queue, which goes there. These keys are not among KEYS: the
-- list is of no queue, and on a cluster there is neither.

-- returns the queue's list of who watches it, and where its element goes
local function watching(wakeSet)
  local base, kind = string.match(wakeSet, '^(.*)wake:(%a+)$')
  return base .. 'watched:' .. kind, string.match(base, '^[^{]*') .. 'woken:' .. kind
end

-- A key of a wrong type costs a wake-up, and no more: consumers also look by themselves.
local function wakeBy(wakeSet)
  local watched, woken = watching(wakeSet)
  redis.pcall('LMOVE', watched, woken, 'LEFT', 'RIGHT')
end

-- of scripts with the fixed keys
local function wake(lane)
  if redis.pcall('EXISTS', KEYS[7 + lane]) == 1 then
    redis.pcall('ZADD', KEYS[9 + lane], 0, '1')
  end
  wakeBy(KEYS[9 + lane])
end
