#!lua flags=allow-oom
-- Ends entries of one list or sorted set, each with operations if it still is there: runs that wait,
-- or dead letters.
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; dead, trimmed, waiters, backlogs, rounds, policy, recheck,
--       running, outbox, ended[2]: of successes, of failures; place: the list or sorted set;
--       then the keys of the operations, in their order
-- ARGV  maxDead: cap of the dead list; beforeID: how many bytes of a record's key come before
--       the run's id; entries: their number; then for each entry
--         1. in a list, its index as the caller knows it; of a list, the greater indexes come
--            later
--         2. how many entries were behind it
--         3. the entry
--         4. its operations, letters (operations.lua)
--       then the arguments of the operations of all, in their order
-- Returns an array of
--       1. for each entry 1, or 0 if it is not there: then nothing is done; or a text, the error
--          after which the entry stays
--       2. in turn a waiter to notify, and the run's id
--       3. how many entries were added to the outbox
-- In a list they are not found if more than 1,000 entries, or half a mebibyte, came or went both
-- before them and behind them since.
-- include clock.lua
-- include backlogs.lua
-- include release.lua
-- include leavebacklog.lua
-- include putback.lua
-- include deadletters.lua
-- include ended.lua
-- include wake.lua
-- include read.lua
-- include operations.lua
-- include pages.lua
local keyType = redis.call('TYPE', K.place).ok
local length = keyType == 'list' and redis.call('LLEN', K.place) or 0
-- It takes the place of an entry that has ended, and goes at the end: to remove an entry from the
-- middle of a list, the server goes through all before it.
local ended, endedCount, deepest = '-', 0, 0
local budget = 4000 -- entries to look at
local shift = 0 -- of the entries: others take at the head
local indexes -- of the entries that are to be ended, as the caller knows them

local function isAt(index, entry)
  return index >= 0 and index < length and redis.call('LRANGE', K.place, index, index)[1] == entry
end

-- Looks for any of the entries around an index, and sets the shift by it. Returns whether there is
-- one.
local function align(near)
  if not indexes then
    indexes = {}
    for i = #A + 1, #A + 4 * tonumber(A.entries), 4 do
      indexes[ARGV[i + 2]] = tonumber(ARGV[i])
    end
  end
  local found = false
  for _, distance in ipairs({100, 1000}) do
    for step = -1, 1, 2 do
      local from = math.max(0, math.min(length - 1, near))
      local to = math.max(0, math.min(length - 1, from + step * distance))
      if not found and budget > 0 and length > 0 then
        readEntries('LRANGE', K.place, from, to, step, 524288, function(entry, at)
          budget = budget - 1
          if indexes[entry] then
            shift, found = at - indexes[entry], true
          end
          return found
        end)
      end
    end
  end
  return found
end

-- the index of an entry of the list, nil if it is not found
local function find(entry, index, behind)
  local one, other = index + shift, length - 1 - behind
  if isAt(one, entry) then
    return one
  elseif isAt(other, entry) then
    return other
  elseif align(math.min(one, other)) and isAt(index + shift, entry) then
    return index + shift
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
      if indexes then
        indexes[entry] = nil
      end
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
argsRead = #A + 4 * tonumber(A.entries)
for i = 1, tonumber(A.entries) do
  local index, behind, entry, letters = unpack(ARGV, #A + 4 * i - 3, #A + 4 * i)
  statuses[i] = endEntry(tonumber(index), tonumber(behind), entry, letters)
end
if endedCount > 0 then
  local n = deepest < length / 2 and endedCount or -endedCount
  if type(redis.pcall('LREM', K.place, n, ended)) == 'table' then
    redis.call('LREM', K.place, n, ended)
  end
end
-- include listended.lua
for kind in pairs(woken) do
  wake(kind)
end
pcall(trimOldest, deadLength) -- else the next dead letter does it
return {statuses, waiters, sent}
