#!lua
-- Describes queues.
--
-- KEYS  for each queue: delayed; ready[6]; inflight, paused, disabled, deferred, backlogs, dead,
--       trimmed, last, staged, rounds, running, starts, limits
-- ARGV  parts: '1' to read all; '0' to leave out what is said of runs that wait, and of how runs
--       ended
--       bytes: looks at the first runs of lists until they are so many bytes
--       batches: counts the runs in so many batches in flight at most
--       backlogs: looks at so many backlogs at most
-- Returns for each queue an array of
--       1. whether large calls have committed runs that are counted nowhere else; whether it is
--          paused; how many dead letters it has, and how many were trimmed; how many delayed runs are
--          due, and how many later; how many runs are in each ready list, deferred, in backlogs, and
--          in flight, -1 if they are in too many batches; when the first of the due delayed runs was due, 0
--          if there is none; 1 if it has read all of 4. and 5. that it wanted to, else 0: 17 numbers
--       2. the tasks that are disabled
--       3. in turn a task, and how its latest run ended
--       4. what opens the first runs of ready lists and backlogs, and of deferred
--       5. of each limit that holds back backlogs: key, maximum, time in µs, how many runs count, how
--          many wait, and one of these, '' if it is large
--       6. the errors of what cannot be read
-- include clock.lua
-- include limitstem.lua
local bytes, batches, looks = tonumber(A.bytes), tonumber(A.batches), tonumber(A.backlogs)
local perQueue = 20

local function digits(n)
  return string.format('%016.0f', math.max(n, 0))
end

-- the limit of a stored run that has the hash
local function limitOf(stored, hash)
  local at = 12 + string.byte(stored, 9)
  for _ = 1, 2 do -- fair value, unique key
    at = at + 1 + string.byte(stored, at)
  end
  for _ = 1, string.byte(stored, at) do
    local size = string.byte(stored, at + 1)
    local key = string.sub(stored, at + 2, at + 1 + size)
    local max, per = struct.unpack('>I8I8', stored, at + 2 + size)
    if string.sub(redis.sha1hex((per > 0 and 'r' or 'c') .. key), 1, 16) == hash then
      return key, max, per
    end
    at = at + 17 + size
  end
end

local function describe(from)
  local key = {}
  for i = 1, perQueue do
    key[i] = KEYS[from + i]
  end
  local inflight, paused, disabled, deferred, backlogs, dead, trimmed, last, staged, rounds, running, starts, programs = unpack(key, 8, perQueue)
  local odd = {}
  -- the reply of a command, or the value to continue with after an error
  local function read(otherwise, ...)
    local reply = redis.pcall(...)
    if type(reply) == 'table' and reply.err then
      odd[#odd + 1] = reply.err
      return otherwise
    end
    return reply or otherwise
  end
  local ms = string.format('%.0f', now())
  local numbers = {
    read(0, 'EXISTS', staged), read(0, 'EXISTS', paused), read(0, 'LLEN', dead), tonumber(read('0', 'GET', trimmed)) or 0,
    read(0, 'ZCOUNT', key[1], '-inf', ms), read(0, 'ZCOUNT', key[1], '(' .. ms, '+inf'),
  }
  for i = 2, 7 do
    numbers[i + 5] = read(0, 'LLEN', key[i])
  end
  numbers[13], numbers[14], numbers[15] = read(0, 'ZCARD', deferred), read(0, 'ZCARD', backlogs), 0
  numbers[16], numbers[17] = 0, 1

  local inBatches = read(0, 'SCARD', inflight)
  batches = batches - inBatches
  if inBatches > 0 and batches < 0 then
    numbers[15] = -1
  elseif inBatches > 0 then
    local base = string.match(inflight, '^(.*)inflight$')
    for _, name in ipairs(read({}, 'SMEMBERS', inflight)) do
      local left = read(0, 'LLEN', base .. 'f:' .. name) - read(0, 'BITCOUNT', base .. 'd:' .. name)
      numbers[15] = numbers[15] + math.max(left, 0)
    end
  end
  if A.parts == '0' then
    return {numbers, {}, {}, {}, {}, odd}
  end

  local heads = {}
  local function head(entry, at)
    if entry and entry ~= '' then
      bytes = bytes - #entry
      heads[#heads + 1] = string.sub(entry, at, at + 2047)
    end
  end
  for i = 2, 7 do
    if numbers[i + 5] > 0 and bytes > 0 then
      head(read({}, 'LRANGE', key[i], 0, 0)[1], 1)
    end
  end
  if numbers[13] > 0 and bytes > 0 then
    head(read({}, 'ZRANGE', deferred, 0, 0)[1], 1)
  end
  if numbers[5] > 0 and bytes > 0 then
    local first = read({}, 'ZRANGE', key[1], 0, 0, 'WITHSCORES')
    bytes = bytes - #(first[1] or '')
    numbers[16] = tonumber(first[2]) or 0
  end

  local limits, atHash = {}, {}
  local opens, next = '-', read({}, 'ZRANGEBYLEX', rounds, '[k', '(k~', 'LIMIT', 0, math.max(looks, 0))
  for _, member in ipairs(numbers[14] > 0 and next or {}) do -- backlogs that a limit holds back
    local hash, name = string.sub(member, 2, 17), string.sub(member, -49, -33) .. string.sub(member, -16)
    looks = looks - 1
    local n = read(0, 'ZLEXCOUNT', backlogs, '[' .. name, '(' .. name .. '~')
    if atHash[hash] then
      limits[atHash[hash]] = limits[atHash[hash]] + n
    elseif n > 0 and bytes > 0 then
      local entry = read({}, 'ZRANGEBYLEX', backlogs, '[' .. name, '(' .. name .. '~', 'LIMIT', 0, 1)[1] or ''
      bytes = bytes - #entry
      local ok, limit, max, per = pcall(limitOf, string.sub(entry, 50), hash)
      if ok and limit then
        local noted = read('', 'HGET', programs, stemOf(limit)) or ''
        local noteMax, notePer = string.match(noted, '^%d+ %d+ (%d+) (%d+) ')
        if noteMax and (tonumber(notePer) > 0) == (per > 0) then
          max, per = tonumber(noteMax), tonumber(notePer)
        end
        local used
        if per > 0 then
          local seconds, micros = serverTime()
          used = read(0, 'ZLEXCOUNT', starts, '[' .. hash .. digits(seconds * 1000000 + micros - per + 1), '(' .. hash .. 'p')
        else
          used = tonumber(read('0', 'HGET', running, limit)) or 0
        end
        for _, value in ipairs({limit, max, per, used, n, #entry < 2048 and string.sub(entry, 50) or ''}) do
          limits[#limits + 1] = value
        end
        atHash[hash] = #limits - 1
      end
    end
  end
  for _ = 1, numbers[14] > 0 and 20 or 0 do -- the first run of some backlogs
    local entry = bytes > 0 and looks > 0 and read({}, 'ZRANGEBYLEX', backlogs, opens, '+', 'LIMIT', 0, 1)[1]
    if not entry then
      break
    end
    looks = looks - 1
    head(entry, 50)
    opens = '[' .. string.sub(entry, 1, 33) .. '~'
  end
  numbers[17] = bytes > 0 and 1 or 0
  return {numbers, read({}, 'SMEMBERS', disabled), read({}, 'HGETALL', last), heads, limits, odd}
end

local reply = {}
for n = 1, #KEYS / perQueue do
  reply[n] = describe((n - 1) * perQueue)
end
return reply
