#!lua flags=allow-oom
-- Ends entries of one list or sorted set, each with operations if it still is there: runs that wait,
-- or dead letters.
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; dead, trimmed, waiters, backlogs, rounds, policy, recheck,
--       running, outbox; place: the list or sorted set; then the keys of the operations, in their
--       order
-- ARGV  maxDead: cap of the dead list; beforeID: how many bytes of a record's key come before
--       the run's id; entries: their number; then for each entry
--         1. in a list, its index as the caller knows it; of a list, the greater indexes come
--            later
--         2. how many entries were behind it
--         3. the entry
--         4. its operations, letters (operations.lua), and their arguments
-- Returns an array of
--       1. for each entry 1, or 0 if it is not there: then nothing is done; or a text, the error
--          after which the entry stays
--       2. in turn a waiter to notify, and the run's id
--       3. how many entries were added to the outbox
-- In a list it is not found if more than 2,000 entries, or a mebibyte, came or went before it and
-- behind it since.
-- include clock.lua
-- include backlogs.lua
-- include release.lua
-- include leavebacklog.lua
-- include putback.lua
-- include deadletters.lua
-- include wake.lua
-- include read.lua
-- include operations.lua
-- include pages.lua
local keyType = redis.call('TYPE', K.place).ok
local length = keyType == 'list' and redis.call('LLEN', K.place) or 0
-- It takes the place of an entry that has ended, and goes at the end: to remove an entry from the
-- middle of a list, the server goes through all before it.
local ended, endedCount, deepest = '-', 0, 0
local shift = 0 -- of the entry found last
local budget = 2000

local function isAt(index, entry)
  return index >= 0 and index < length and redis.call('LRANGE', K.place, index, index)[1] == entry
end

-- the index of an entry of the list, nil if it is not found
local function find(entry, index, behind)
  local one, other = index + shift, length - 1 - behind
  if isAt(one, entry) then
    return one
  elseif isAt(other, entry) then
    return other
  end
  for step = -1, 1, 2 do
    local from = step < 0 and math.min(one, other, length - 1) or math.max(0, math.min(one, other) + 1)
    local to = math.max(0, math.min(length - 1, from + step * math.min(budget, 1000)))
    local found
    if budget > 0 and (to - from) * step >= 0 then
      readEntries('LRANGE', K.place, from, to, step, 524288, function(other_, at)
        budget = budget - 1
        found = other_ == entry and at
        return found
      end)
    end
    if found then
      return found
    end
  end
end

local function endEntry(index, behind, entry, letters)
  local at, there = nil, false
  if keyType == 'list' then
    at = find(entry, index, behind)
    there = at
  elseif keyType == 'zset' then
    there = redis.call('ZSCORE', K.place, entry)
  end
  if not there then
    operations().discard(letters)
    return 0
  end
  local err = operations().apply(letters, function()
    if at then
      redis.call('LSET', K.place, at, ended)
      shift, endedCount = at - index, endedCount + 1
      deepest = math.max(deepest, at)
    elseif K.place == K.backlogs then
      leaveBacklog(entry)
    else
      redis.call('ZREM', K.place, entry)
    end
  end)
  return err and (type(err) == 'table' and err.err or tostring(err)) or 1
end

local statuses = {}
for i = 1, tonumber(A.entries) do
  local index, behind, entry, letters = tonumber(nextArg()), tonumber(nextArg()), nextArg(), nextArg()
  statuses[i] = endEntry(index, behind, entry, letters)
end
if endedCount > 0 then
  local n = deepest < length / 2 and endedCount or -endedCount
  if type(redis.pcall('LREM', K.place, n, ended)) == 'table' then
    redis.call('LREM', K.place, n, ended)
  end
end
for kind in pairs(woken) do
  wake(kind)
end
pcall(trimOldest, deadLength) -- else the next dead letter does it
return {statuses, waiters, sent}
