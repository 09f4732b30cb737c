#!lua flags=allow-oom
-- Leases due runs: moves them from the ready lists into the batch of a slot.
-- Called again with the same slot it returns the same batch, so a call whose
-- reply was lost can be repeated. Called with room for nothing it returns the
-- slot's batch or, if there is none, sees to it that there never will be: a
-- call that is still on its way then takes nothing.
--
-- KEYS  1 delayed, 2-7 ready lists (io high, medium, low, cpu high, medium,
--       low), 8-9 idle flags io, cpu, 10-11 wake sets io, cpu, 12 flights,
--       13 leases, 14 ops, 15 the slot's batch, 16 dead, 17 dropped,
--       18 paused, 19 disabled, 20 aside: runs of disabled tasks in their order,
--       21 enabling: tasks whose runs are to come back from there, and up to
--       which one that is not done, 22 lines, 23 turns, 24 policy, 25 opens,
--       26 held, 27 starts, 28 rates, 29 outbox
-- ARGV  1 session, 2 slot, 3 lease in ms, 4 at most so many io, 5 cpu, 6 of
--       both together, 7 '1' if the caller will sleep when there is nothing,
--       8 cap of the dead list, 9 a failure for entries that cannot be read,
--       10 how many of the io, 11 of the cpu are to be taken only as far as
--       they are not more than an equal share of the sessions that hold some
-- Returns an array: first the milliseconds until the next delayed run is due, or
--       one that waits for a rate may start
--       (0: call again at once; -1: there is none, or the queue is paused; -2:
--       this slot can be used no more; -3: there is none, and nothing in flight
--       either), then the elements of the batch.
-- include lines.lua
-- include turns.lua
local session, slot, batch = ARGV[1], tonumber(ARGV[2]), KEYS[15]
local room, total, left = {tonumber(ARGV[4]), tonumber(ARGV[5])}, tonumber(ARGV[6]), {}
local wanted = {room[1] > 0, room[2] > 0}
local free = {room[1] - tonumber(ARGV[10]), room[2] - tonumber(ARGV[11])}

-- tells producers for five minutes that somebody waits
local function sleep()
  for lane = 1, 2 do
    if wanted[lane] and ARGV[7] == '1' then
      redis.call('SET', KEYS[7 + lane], '1', 'PX', 300000)
    end
  end
end

local function wake(lane)
  if redis.call('EXISTS', KEYS[7 + lane]) == 1 then
    redis.call('ZADD', KEYS[9 + lane], 0, '1')
  end
end

-- the common case of nothing at all, in as little as possible
if total > 0 and redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[12], KEYS[21], KEYS[22], KEYS[29]) == 0 then
  sleep()
  return {-3}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local leaseEnd = string.format('%.0f', now + tonumber(ARGV[3]))

local reply = {}
local used = redis.call('HGET', KEYS[14], session)
if used and tonumber(used) >= slot then
  reply = redis.call('LRANGE', batch, 0, -1)
  if #reply == 0 then
    return {-2}
  end
  redis.call('ZADD', KEYS[13], leaseEnd, session)
  table.insert(reply, 1, -1)
  return reply
end
if total <= 0 then
  redis.call('HSET', KEYS[14], session, ARGV[2])
  redis.call('ZADD', KEYS[13], leaseEnd, session) -- with which the entry goes
  return {-2}
end

local special = redis.call('EXISTS', KEYS[18], KEYS[19], KEYS[21], KEYS[24]) > 0
local steered = special and redis.call('EXISTS', KEYS[18], KEYS[19], KEYS[21]) > 0
if steered and redis.call('EXISTS', KEYS[18]) == 1 then
  sleep()
  return {-1}
end

local function bury(element)
  redis.call('LPUSH', KEYS[16], string.format('%013.0f', now) .. ARGV[9] .. element)
  local over = redis.call('LLEN', KEYS[16]) - tonumber(ARGV[8])
  if over > 0 then
    redis.call('LTRIM', KEYS[16], 0, tonumber(ARGV[8]) - 1)
    redis.call('INCRBY', KEYS[17], over)
  end
end

-- the ready list, 1-6, that an element's header names; nil if it has none
local function laneOf(element)
  local version, _, kind, priority = string.byte(element, 1, 4)
  if version == 1 and priority and kind <= 1 and priority <= 2 and #element > 9 then
    return kind * 3 + 3 - priority
  end
end

local lines -- how runs with limits or a fair value wait, where there are any
local function inLines()
  if not lines then
    local micros = time[1] * 1000000 + time[2]
    lines = policies(KEYS[22], KEYS[23], KEYS[24], KEYS[25], KEYS[26])
    turning(lines, KEYS[22], KEYS[23], KEYS[24], KEYS[25], KEYS[26], KEYS[27], KEYS[28], micros)
  end
  return lines
end

local arrived = {}

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
      local page = redis.call('ZRANGE', KEYS[20], '(' .. from, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 50, 'WITHSCORES')
      if #page == 0 then
        redis.call('ZREM', KEYS[21], task)
        return true
      end
      for i = 1, #page, 2 do
        if look(page[i]) == task then
          local lane = laneOf(page[i])
          if bit.band(string.byte(page[i], 2), 8) == 0 then
            redis.call('LPUSH', KEYS[1 + lane], page[i])
          else
            inLines().back(lane, KEYS[1 + lane], page[i])
          end
          redis.call('ZREM', KEYS[20], page[i])
          arrived[lane <= 3 and 1 or 2] = true
        end
      end
      from = page[#page]
    end
    redis.call('ZADD', KEYS[21], from, task)
  end

  local enabling = redis.call('ZRANGE', KEYS[21], 0, 0, 'WITHSCORES')
  while #enabling > 0 do
    if not bringBack(enabling[1], enabling[2]) then
      return {0}
    end
    enabling = redis.call('ZRANGE', KEYS[21], 0, 0, 'WITHSCORES')
  end

  local disabled, last = {}, nil
  for _, task in ipairs(redis.call('SMEMBERS', KEYS[19])) do
    disabled[task] = true
  end

  -- keeps a run aside if its task is disabled, and returns whether it is
  function setAside(element)
    if disabled[look(element)] then
      last = (last or tonumber(redis.call('ZRANGE', KEYS[20], -1, -1, 'WITHSCORES')[2] or 0)) + 1
      redis.call('ZADD', KEYS[20], string.format('%.0f', last), element)
      return true
    end
  end

  -- Moves runs of disabled tasks at the head of a list aside. Returns how many of
  -- those that are there then, up to n, are to be taken.
  function sift(list, n)
    local kept = {}
    while #kept < n and looks > 0 and bytes > 0 do
      local page = redis.call('LPOP', list, math.min(n - #kept, 50))
      if not page then
        break
      end
      for _, element in ipairs(page) do
        if not setAside(element) then
          kept[#kept + 1] = element
        end
      end
    end
    for i = #kept, 1, -1 do
      redis.call('LPUSH', list, kept[i])
    end
    return #kept
  end
end

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if first and tonumber(first) <= now then
  local page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, 200)
  for _, element in ipairs(page) do
    local lane = laneOf(element)
    if lane then
      if bit.band(string.byte(element, 2), 8) == 0 then
        redis.call('RPUSH', KEYS[1 + lane], element)
      else
        inLines().arrive(lane, KEYS[1 + lane], element)
      end
      arrived[lane <= 3 and 1 or 2] = true
    else
      bury(element)
    end
  end
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #page - 1)
  first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
end

reply[1] = -1
local sessions -- that hold something
local size = 1

-- how many of a ready list to take, and how many are in it
local function share(lane, list, most)
  local n = math.min(room[lane], total, most)
  if sift and n > 0 then
    n = sift(list, n)
  end
  local length = redis.call('LLEN', list)
  n = math.min(n, length)
  if n > free[lane] then
    sessions = sessions or math.max(1, redis.call('ZCARD', KEYS[13]))
    n = math.max(free[lane], math.min(n, math.ceil(length / sessions)))
  end
  return n, length
end

local function taken(lane, n)
  room[lane], free[lane] = room[lane] - n, math.max(free[lane] - n, 0)
  total = total - n
end

local function take(lane, list)
  local n, length = share(lane, list, total)
  if n < length then
    left[lane] = true
  end
  if n <= 0 then
    return
  end
  local moved
  if n == length and size == 1 then
    redis.call('RENAME', list, batch)
    moved = redis.call('LRANGE', batch, 0, -1)
  else
    moved = redis.call('LPOP', list, n)
    for i = 1, n, 4000 do
      redis.call('RPUSH', batch, unpack(moved, i, math.min(i + 3999, n)))
    end
  end
  for i = 1, n do
    reply[size + i] = moved[i]
  end
  size = size + n
  taken(lane, n)
end

local skipped = {} -- kinds of which a line waits for a slot that is free

-- takes where there are lines: one run a turn, or what is next in the ready list
local function takeInTurn(lane, list)
  local ready = (lane - 1) * 3 + list
  local function add(element)
    redis.call('RPUSH', batch, element)
    size = size + 1
    reply[size] = element
    taken(lane, 1)
  end
  while room[lane] > 0 and total > 0 and lines.budget() > 0 do
    local waiting, plain = lines.waits(ready), redis.call('EXISTS', KEYS[1 + ready]) == 1
    if not waiting and not plain then
      return
    end
    if waiting and free[lane] <= 0 then
      skipped[lane] = true
      return
    end
    local line = waiting and lines.turn(ready, plain)
    if line then
      local element = lines.start(line, setAside)
      if element then
        add(element)
      end
    else
      local n = share(lane, KEYS[1 + ready], waiting and 1 or lines.budget())
      if n <= 0 then
        break
      end
      for _, element in ipairs(redis.call('LPOP', KEYS[1 + ready], n)) do
        local run = lines.read(element)
        if not run then
          add(element)
        else
          local started = lines.come(ready, element, run, free[lane] > 0)
          if started then
            add(started)
          end
        end
      end
    end
  end
  if lines.waits(ready) or redis.call('EXISTS', KEYS[1 + ready]) == 1 then
    left[lane] = true
  end
end

local more = false -- to look at
if lines or special and redis.call('EXISTS', KEYS[24]) == 1 then
  more = inLines().wake()
end
for priority = 1, 3 do
  for lane = 1, 2 do
    if wanted[lane] and lines then
      takeInTurn(lane, priority)
    elseif wanted[lane] then
      take(lane, KEYS[(lane - 1) * 3 + priority + 1])
    end
  end
end
if lines then
  for ready in pairs(lines.promoted) do
    arrived[ready <= 3 and 1 or 2] = true
  end
  for ready in pairs(size > 1 and lines.later or {}) do
    left[ready <= 3 and 1 or 2] = true -- another has to learn when to look
  end
  more = more or lines.budget() <= 0
  for lane = 1, 2 do
    -- Who has only slots that are not free yet must not wake itself again and again.
    if skipped[lane] and (size > 1 or redis.call('HGET', KEYS[24], 'skipped' .. lane) ~= string.format('%.0f', now / 500)) then
      redis.call('HSET', KEYS[24], 'skipped' .. lane, string.format('%.0f', now / 500))
      left[lane] = true
    end
  end
  if redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[22]) == 0 then
    redis.call('DEL', KEYS[23], KEYS[24], KEYS[25])
  end
end
for lane = 1, 2 do
  if wanted[lane] and left[lane] or not wanted[lane] and arrived[lane] then
    wake(lane)
  end
end
if size > 1 then
  redis.call('SADD', KEYS[12], session .. ':' .. ARGV[2])
  redis.call('ZADD', KEYS[13], leaseEnd, session)
  redis.call('HSET', KEYS[14], session, ARGV[2])
else
  sleep()
end
local opens = lines and lines.due()
first = tonumber(first)
if more or size == 1 and (looks <= 0 or bytes <= 0) then
  reply[1] = 0
elseif first or opens then
  reply[1] = math.max(0, math.min(first or opens, opens or first) - now)
end
return reply
