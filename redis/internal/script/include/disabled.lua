-- Defers the runs of disabled tasks, and brings them back once the task is enabled. This is
-- no script: it stands in take.lua instead of the comment that includes it, behind what it
-- uses of that. While no task is disabled, it costs nothing.

-- how many stored runs and bytes may be searched for their task in one call
local looks, bytes = 2000, 16777216
local sift, defer -- while tasks are disabled
if operated then
  -- how many bytes of length or value follow the types of MessagePack that open
  -- with 0xc0 to 0xdf, negative if it is a length; of arrays and maps it counts
  -- values
  local follow = {[0] = 0, 0, 0, 0, -1, -2, -4, -1, -2, -4, 4, 8, 1, 2, 4, 8,
    1, 2, 4, 8, 2, 3, 5, 9, 17, -1, -2, -4, -2, -4, -2, -4}

  -- the place behind the value at a place of a stored run, nil if it is cut off
  local function skip(stored, at)
    local values = 1
    while values > 0 do
      local kind = string.byte(stored, at)
      if not kind then
        return nil
      end
      at, values = at + 1, values - 1
      local n = kind >= 0xc0 and kind < 0xe0 and follow[kind - 0xc0] or 0
      if n < 0 then
        if #stored < at - n then
          return nil
        end
        local size = struct.unpack('>I' .. -n, stored, at)
        at = at - n
        if kind >= 0xdc then
          values = values + size * (kind >= 0xde and 2 or 1)
        else
          at = at + size + (kind >= 0xc7 and kind <= 0xc9 and 1 or 0)
        end
      elseif kind >= 0x80 and kind < 0xa0 then
        values = values + (kind < 0x90 and 2 * (kind - 0x80) or kind - 0x90)
      elseif kind >= 0xa0 and kind < 0xc0 then
        at = at + kind - 0xa0
      else
        at = at + n
      end
    end
    return at
  end

  -- the task that a stored run's envelope names, nil if it cannot be found
  local function taskOf(stored)
    local at = 11 + string.byte(stored, 9)
    if bit.band(string.byte(stored, 2), 12) ~= 0 and #stored > at then
      at = at + 2 + struct.unpack('>I2', stored, at - 1) -- behind its extension
    end
    at = at + (string.byte(stored, at) == 0xde and 3 or 1)
    while at and at < #stored do
      if string.sub(stored, at, at + 1) == '\161t' then -- taskgen writes it first
        local behind = skip(stored, at + 2)
        local long = string.byte(stored, at + 2) == 0xd9 and 1 or 0
        return behind and string.sub(stored, at + 3 + long, behind - 1)
      end
      at = skip(stored, at)
      at = at and skip(stored, at)
    end
  end

  local function look(stored)
    looks, bytes = looks - 1, bytes - #stored
    return listOf(stored) and taskOf(stored)
  end

  -- Brings back runs of a task that is enabled again, from the last one on, so
  -- that they are at the heads of their lists in their order.
  local function bringBack(task, from)
    while looks > 0 and bytes > 0 do
      local page = redis.call('ZRANGE', K.deferred, '(' .. from, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 50, 'WITHSCORES')
      if #page == 0 then
        redis.call('ZREM', K.enabling, task)
        return true
      end
      for i = 1, #page, 2 do
        if look(page[i]) == task then
          local list = listOf(page[i])
          local entry = putBack(list, page[i])
          must(function()
            takeAway(list, entry)
          end, 'ZREM', K.deferred, page[i])
          arrived[kindOf(list)] = true
        end
      end
      from = page[#page]
    end
    redis.call('ZADD', K.enabling, from, task)
  end

  local enabling = redis.call('ZRANGE', K.enabling, 0, 0, 'WITHSCORES')
  while #enabling > 0 do
    if not bringBack(enabling[1], enabling[2]) then
      return {0}
    end
    enabling = redis.call('ZRANGE', K.enabling, 0, 0, 'WITHSCORES')
  end

  local disabled, last = {}, nil
  for _, task in ipairs(redis.call('SMEMBERS', K.disabled)) do
    disabled[task] = true
  end

  -- defers a run if its task is disabled, and returns whether it is
  function defer(stored)
    if disabled[look(stored)] then
      last = (last or tonumber(redis.call('ZRANGE', K.deferred, -1, -1, 'WITHSCORES')[2] or 0)) + 1
      redis.call('ZADD', K.deferred, string.format('%.0f', last), stored)
      return true
    end
  end

  -- Defers runs of disabled tasks at the head of a ready list. Returns how many of the runs
  -- that are there then, up to n, are to be taken.
  function sift(key, n)
    local kept = 0
    while kept < n and looks > 0 and bytes > 0 do
      local page = redis.call('LRANGE', key, kept, kept + math.min(n - kept, 50) - 1)
      if #page == 0 then
        break
      end
      for _, stored in ipairs(page) do
        if defer(stored) then
          must(function()
            redis.pcall('ZREM', K.deferred, stored)
          end, 'LREM', key, 1, stored)
          looks = looks - math.floor(kept / 20) -- which it passed
        else
          kept = kept + 1
        end
      end
    end
    return kept
  end
end
