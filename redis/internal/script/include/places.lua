-- Looks for runs where they wait. This is no script: it stands in scripts instead of the
-- comment that includes it, behind unwait.lua.

-- the type of a key, as TYPE names it
local function typeOf(key)
  return redis.call('TYPE', key).ok
end

-- takes one such stored run away; true if there was one
local function take(place, stored)
  local kind = typeOf(place)
  if kind == 'list' then
    return redis.call('LREM', place, -1, stored) > 0
  elseif place == K.waiting then
    return removeWaiting(stored)
  end
  return kind == 'zset' and redis.call('ZREM', place, stored) > 0
end

-- how often it is there, as far as two are counted; of a batch, at an index that is not
-- negative, with its bitmap of finished runs
local function count(place, stored, done, index)
  if index and index >= 0 then
    local there = redis.call('LINDEX', place, index) == stored
    return there and redis.call('GETBIT', done, index) == 0 and 1 or 0
  end
  local kind = typeOf(place)
  if kind == 'list' then
    return #redis.call('LPOS', place, stored, 'COUNT', 2)
  end
  return kind == 'zset' and redis.call('ZSCORE', place, stored) and 1 or 0
end
