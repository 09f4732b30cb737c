#!lua flags=allow-oom
-- Ends a run that waits, and is not in flight, if it still is where the caller saw it.
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; dead, trimmed, waiters, backlogs, rounds, policy, recheck,
--       running, outbox, ended[2]: of successes, of failures; place: the list or sorted set that
--       has the run as an entry, or the string that is the entry, any key if there is no entry;
--       then the keys of the operations, in their order
-- ARGV  maxDead: cap of the dead list; beforeID: how many bytes of a record's key come before
--       the run's id; entry: as it is in the place, '' to apply operations without one;
--       operations: of the run's outcome, letters (operations.lua); then the arguments of the
--       operations
-- Returns an array of
--       1. 1, or 0 if the entry is not there: then nothing is done
--       2. in turn a waiter to notify, and the run's id
--       3. how many entries were added to the outbox
-- After an error the run is where it was, and the call can be repeated.
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

-- Returns whether the entry is there, and functions that take it away after the operations, and
-- that put it back if the operations fail.
local function find()
  local function nothing() end
  if A.entry == '' then
    return true, nothing, nothing
  end
  local keyType = redis.call('TYPE', K.place).ok
  if keyType == 'list' then
    -- Only its removal says whether a list has it. The entry goes first, and comes back at the tail.
    return redis.call('LREM', K.place, -1, A.entry) > 0, nothing, function()
      redis.pcall('RPUSH', K.place, A.entry)
    end
  elseif keyType == 'string' then
    return redis.call('GET', K.place) == A.entry, function()
      redis.call('DEL', K.place)
    end, nothing
  elseif keyType ~= 'zset' then
    return false
  end
  return redis.call('ZSCORE', K.place, A.entry), function()
    if K.place == K.backlogs then
      leaveBacklog(A.entry)
    else
      redis.call('ZREM', K.place, A.entry)
    end
  end, nothing
end

local there, remove, restore = find()
if not there then
  return {0, {}, 0}
end
local err = operations().apply(A.operations, remove)
if err then
  restore()
  return {err = type(err) == 'table' and err.err or 'ERR ' .. tostring(err)} -- error() would add its position
end
-- include listended.lua
for kind in pairs(woken) do
  wake(kind)
end
pcall(trimOldest, deadLength) -- else the next dead letter does it
return {1, waiters, sent}
