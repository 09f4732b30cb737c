-- What is left out of a take as its task is disabled, and comes back once that is
-- enabled. This is no script: it stands in take.lua instead of the comment that
-- includes it, behind what it uses of that. While nothing is steered all
-- that it costs is to see that.

-- what is looked at for its task in one call: elements and bytes
local looks, bytes = 2000, 16777216
local sift, setAside -- while tasks are disabled
if steered then
  -- how many bytes of length or value follow the types of MessagePack that open
  -- with 0xc0 to 0xdf, negative if it is a length; of arrays and maps it counts
  -- values
  local follow = {[0] = 0, 0, 0, 0, -1, -2, -4, -1, -2, -4, 4, 8, 1, 2, 4, 8,
    1, 2, 4, 8, 2, 3, 5, 9, 17, -1, -2, -4, -2, -4, -2, -4}

  -- the place behind the value at a place of an element, nil when it is cut off
  local function skip(element, at)
    local values = 1
    while values > 0 do
      local kind = string.byte(element, at)
      if not kind then
        return nil
      end
      at, values = at + 1, values - 1
      local n = kind >= 0xc0 and kind < 0xe0 and follow[kind - 0xc0] or 0
      if n < 0 then
        if #element < at - n then
          return nil
        end
        local size = struct.unpack('>I' .. -n, element, at)
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

  -- the task that an element's envelope names, nil if it cannot be found
  local function taskOf(element)
    local at = 11 + string.byte(element, 9)
    if bit.band(string.byte(element, 2), 12) ~= 0 and #element > at then
      at = at + 2 + struct.unpack('>I2', element, at - 1) -- behind its extension
    end
    at = at + (string.byte(element, at) == 0xde and 3 or 1)
    while at and at < #element do
      if string.sub(element, at, at + 1) == '\161t' then -- taskgen writes it first
        local behind = skip(element, at + 2)
        local long = string.byte(element, at + 2) == 0xd9 and 1 or 0
        return behind and string.sub(element, at + 3 + long, behind - 1)
      end
      at = skip(element, at)
      at = at and skip(element, at)
    end
  end

  local function look(element)
    looks, bytes = looks - 1, bytes - #element
    return laneOf(element) and taskOf(element)
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
          local lane = laneOf(page[i])
          local entry = putBack(lane, page[i])
          must(function()
            takeAway(lane, entry)
          end, 'ZREM', K.deferred, page[i])
          arrived[lane <= 3 and 1 or 2] = true
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

  -- keeps a run aside if its task is disabled, and returns whether it is
  function setAside(element)
    if disabled[look(element)] then
      last = (last or tonumber(redis.call('ZRANGE', K.deferred, -1, -1, 'WITHSCORES')[2] or 0)) + 1
      redis.call('ZADD', K.deferred, string.format('%.0f', last), element)
      return true
    end
  end

  -- Moves runs of disabled tasks at the head of a list aside. Returns how many of
  -- those that are there then, up to n, are to be taken.
  function sift(list, n)
    local kept = 0
    while kept < n and looks > 0 and bytes > 0 do
      local page = redis.call('LRANGE', list, kept, kept + math.min(n - kept, 50) - 1)
      if #page == 0 then
        break
      end
      for _, element in ipairs(page) do
        if setAside(element) then
          must(function()
            redis.pcall('ZREM', K.deferred, element)
          end, 'LREM', list, 1, element)
          looks = looks - math.floor(kept / 20) -- which it passed
        else
          kept = kept + 1
        end
      end
    end
    return kept
  end
end
