-- Wakes the consumers that watch a queue. This is no script: it stands in scripts instead of
-- the comment that includes it.
--
-- A consumer of one queue waits for its wake set. A consumer of several on one server
-- waits for one list for them all, <prefix>:woken:<kind>: it leaves a token in
-- watched:<kind> of each queue, which goes there. These keys are not among KEYS: the
-- list is of no queue, and on a cluster there is neither.

-- returns the queue's watched list
local function watchedOf(wakeSet)
  return (string.gsub(wakeSet, 'wake:(%a+)$', 'watched:%1'))
end

-- moves the first token of the queue's list to the list for which its consumer waits
local function sendToken(wakeSet, watched)
  local base, kind = string.match(wakeSet, '^(.*)wake:(%a+)$')
  redis.pcall('LMOVE', watched, string.match(base, '^[^{]*') .. 'woken:' .. kind, 'LEFT', 'RIGHT')
end
