-- Finds runs where they wait. This is no script: it stands in scripts instead of the
-- comment that includes it, behind leavebacklog.lua.

-- the type of a key, as TYPE names it
local function typeOf(key)
  return redis.call('TYPE', key).ok
end

-- removes one such entry; returns true if there was one
local function take(place, entry)
  local keyType = typeOf(place)
  if keyType == 'list' then
    return redis.call('LREM', place, -1, entry) > 0
  elseif place == K.backlogs then
    return leaveBacklog(entry)
  end
  return keyType == 'zset' and redis.call('ZREM', place, entry) > 0
end

-- how often an entry is there, 2 at most. A batch has an index that is not negative, and a
-- bitmap of finished runs.
local function count(place, entry, done, index)
  if index and index >= 0 then
    local there = redis.call('LINDEX', place, index) == entry
    return there and redis.call('GETBIT', done, index) == 0 and 1 or 0
  end
  local keyType = typeOf(place)
  if keyType == 'list' then
    return #redis.call('LPOS', place, entry, 'COUNT', 2)
  end
  return keyType == 'zset' and redis.call('ZSCORE', place, entry) and 1 or 0
end
