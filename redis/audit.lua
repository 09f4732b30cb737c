#!lua flags=allow-oom
-- Looks at what the auditor found wrong in a queue, and mends it where it still
-- is: between the auditor's look and this call all may have changed.
--
-- KEYS  1 flights, 2 dead, 3 dropped, 4 lines, 5 turns, 6 policy, 7 opens,
--       8 held; then as the mode says
-- ARGV  1 mode, 2 '1' to mend, '0' to count only, '2' to mend and to look at less
--       in one go, 3 cap of the dead list,
--       4 a failure for entries that cannot be read; then as the mode says
--   flights  KEYS a batch and its bitmap of finished runs for each ARGV
--            "session:slot"; returns how many batches are not in flights, how
--            many in flights have no batch, how many bitmaps have none
--   bury     KEYS a list or sorted set, ARGV how many bytes of an entry come
--            before its element, entries of it that cannot be read; returns how
--            many became dead letters
--   copy     KEYS where a run is, its bitmap, where it is too, the bitmap there;
--            ARGV for each of both its entry and its index in a batch (-1: it
--            is in none); returns 1 when both are there: the second goes
--   swap     KEYS places of runs, lines the last, and behind them strings;
--            ARGV the number of places, what the keys of batches open with, and
--            for each string the id of its run, its value, the value instead of
--            it ('' for none), ms to keep that ('' if it may be one that expires,
--            which others are not touched); returns how many are as they
--            were and of runs that are in none of the places near its ends, and
--            in no batch; -1 when that is too much to look at in one go
--   counts   ARGV what the keys of batches and of their bitmaps open with, where
--            to go on in held, '' at first; returns of how many limits it is wrong
--            how many runs are in flight, and where to go on, '' at the end; -1 and
--            '' when those runs are too many to look at in one go. Each step counts
--            them anew: between two steps they change
--   turns    ARGV the line to begin behind, '' at first; returns how many lines
--            nobody would look at, and the last line it came to, '' at the end
-- The batches are those that are in flights now, which nobody can name before;
-- their keys have the queue's hash tag.
-- include lines.lua
local mend = ARGV[2] ~= '0'

local lines = policies(KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8])

local function kind(place)
  return redis.call('TYPE', place).ok
end

-- takes one such element away; true if there was one
local function take(place, element)
  if kind(place) == 'list' then
    return redis.call('LREM', place, -1, element) > 0
  end
  if place == KEYS[4] then
    return lines.remove(element)
  end
  return kind(place) == 'zset' and redis.call('ZREM', place, element) > 0
end

-- how often it is there, as far as two are counted
local function count(place, done, element, index)
  if index >= 0 then
    local there = redis.call('LINDEX', place, index) == element
    return there and redis.call('GETBIT', done, index) == 0 and 1 or 0
  end
  if kind(place) == 'list' then
    return #redis.call('LPOS', place, element, 'COUNT', 2)
  end
  return kind(place) == 'zset' and redis.call('ZSCORE', place, element) and 1 or 0
end

local modes = {}

function modes.flights()
  local unlisted, empty, alone = 0, 0, 0
  for i = 5, #ARGV do
    local batch, done = KEYS[i * 2 - 1], KEYS[i * 2]
    local held = redis.call('EXISTS', batch) == 1
    local listed = redis.call('SISMEMBER', KEYS[1], ARGV[i]) == 1
    if held and not listed then
      unlisted = unlisted + 1
      if mend then
        redis.call('SADD', KEYS[1], ARGV[i])
      end
    elseif listed and not held then
      empty = empty + 1
      if mend then
        redis.call('SREM', KEYS[1], ARGV[i])
      end
    end
    if not held and redis.call('EXISTS', done) == 1 then
      alone = alone + 1
      if mend then
        redis.call('DEL', done)
      end
    end
  end
  return {unlisted, empty, alone}
end

function modes.bury()
  local n = 0
  for i = 6, #ARGV do
    if not mend then
      n = n + math.min(1, count(KEYS[9], '', ARGV[i], -1))
    elseif count(KEYS[9], '', ARGV[i], -1) > 0 then
      n = n + 1
      local time = redis.call('TIME')
      local now = time[1] * 1000 + math.floor(time[2] / 1000)
      local element = string.sub(ARGV[i], tonumber(ARGV[5]) + 1)
      redis.call('LPUSH', KEYS[2], string.format('%013.0f', now) .. ARGV[4] .. element)
      local ok, failure = pcall(take, KEYS[9], ARGV[i])
      if not ok then
        redis.pcall('LPOP', KEYS[2])
        error(failure)
      end
    end
  end
  local over = redis.call('LLEN', KEYS[2]) - tonumber(ARGV[3])
  if mend and over > 0 then
    redis.call('INCRBY', KEYS[3], over)
    redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[3]) - 1)
  end
  return n
end

function modes.copy()
  local first, second = tonumber(ARGV[6]), tonumber(ARGV[8])
  local needed = KEYS[9] == KEYS[11] and ARGV[5] == ARGV[7] and first == second and 2 or 1
  if count(KEYS[9], KEYS[10], ARGV[5], first) < needed or count(KEYS[11], KEYS[12], ARGV[7], second) < needed then
    return 0
  end
  if mend and second >= 0 then
    redis.call('SETBIT', KEYS[12], second, 1)
  elseif mend then
    take(KEYS[11], ARGV[7])
  end
  return 1
end

-- how much is looked at: elements at each end of a place, and bytes in all
local ends, most = 1000, ARGV[2] == '2' and 1048576 or 16777216

function modes.swap()
  local places, from, wanted, read = tonumber(ARGV[5]), ARGV[6], {}, 0
  for p = 7, #ARGV, 4 do
    wanted[ARGV[p]] = true
  end
  local skip = 0 -- bytes before an element
  local function look(elements)
    for _, element in ipairs(elements) do
      read = read + #element
      element = skip > 0 and string.sub(element, skip + 1) or element
      if #element > 9 then
        wanted[string.sub(element, 10, 9 + string.byte(element, 9))] = nil
      end
    end
    return read <= most
  end
  -- reads a part in pages, as its elements can be large
  local function range(command, key, first, last)
    for i = first, last, 100 do
      if not look(redis.call(command, key, i, math.min(i + 99, last))) then
        return false
      end
    end
    return true
  end
  local function both(length, read, key)
    local n = redis.call(length, key)
    if ARGV[2] == '2' and n > 2 * ends then
      return false -- a run can be between its ends
    end
    local half = math.min(n, ends)
    return range(read, key, 0, half - 1) and range(read, key, math.max(half, n - ends), n - 1)
  end
  for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local batch = from .. member
    if not range('LRANGE', batch, 0, redis.call('LLEN', batch) - 1) then
      return -1
    end
  end
  for i = 9, 8 + places do
    local what = kind(KEYS[i])
    skip = KEYS[i] == KEYS[4] and 49 or 0
    if what == 'list' and not both('LLEN', 'LRANGE', KEYS[i])
      or what == 'zset' and not both('ZCARD', 'ZRANGE', KEYS[i]) then
      return -1
    end
  end
  local n = 0
  for i = 9 + places, #KEYS do
    local p = (i - 9 - places) * 4 + 7
    if wanted[ARGV[p]] and redis.call('GET', KEYS[i]) == ARGV[p + 1] 
      and (ARGV[p + 3] == '' or redis.call('PTTL', KEYS[i]) == -1) then
      n = n + 1
      if mend and ARGV[p + 2] == '' then
        redis.call('DEL', KEYS[i])
      elseif mend then
        redis.call('SET', KEYS[i], ARGV[p + 2], 'PX', ARGV[p + 3])
      end
    end
  end
  return n
end

-- what is counted beside a page of what is noted: batches in flight; their runs, a limit
-- as two of them; and how much is noted in a page
local fewBatches, fewRuns, page = 1000, 10000, 500

function modes.counts()
  local is, read, runs = {}, 0, 0
  local few = redis.call('SCARD', KEYS[1]) <= fewBatches
  if not few and ARGV[2] == '2' then
    return {-1, ''}
  end
  for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local batch, done = ARGV[5] .. member, ARGV[6] .. member
    local partly = redis.call('EXISTS', done) == 1
    local size = redis.call('LLEN', batch)
    runs = runs + size
    for at = 0, size - 1, 100 do
      for i, element in ipairs(redis.call('LRANGE', batch, at, at + 99)) do
        read = read + #element
        local run = lines.read(element)
        if run and not (partly and redis.call('GETBIT', done, at + i - 1) == 1) then
          for _, limit in ipairs(run.limits) do
            if limit.per == 0 and limit.counts then
              runs = is[limit.key] and runs or runs + 2
              is[limit.key] = (is[limit.key] or 0) + 1
            end
          end
        end
      end
      few = few and runs <= fewRuns
      if read > most or not few and ARGV[2] == '2' then
        return {-1, ''}
      end
    end
  end
  local n = 0
  local function compare(key, noted)
    if (is[key] or 0) == tonumber(noted or 0) then
      return
    end
    n = n + 1
    if mend then
      if is[key] then
        redis.call('HSET', KEYS[8], key, is[key])
      else
        redis.call('HDEL', KEYS[8], key)
      end
      redis.call('ZADD', KEYS[7], 0, lines.hash('c' .. key))
    end
  end
  if ARGV[7] == '' then
    for key in pairs(is) do
      compare(key, redis.call('HGET', KEYS[8], key))
    end
    if few then
      return {n, '0'}
    end
  end
  local cursor, noted = '0', nil
  if few then
    cursor, noted = unpack(redis.call('HSCAN', KEYS[8], ARGV[7], 'COUNT', page))
  else
    noted = redis.call('HGETALL', KEYS[8]) -- lest all in flight is read for each page
  end
  for i = 1, #noted, 2 do
    if mend or not is[noted[i]] then -- of the others the first step has told
      compare(noted[i], noted[i + 1])
    end
  end
  return {n, cursor ~= '0' and cursor or ''}
end

function modes.turns()
  local n, from = 0, ARGV[5]
  for _ = 1, 500 do
    local entry = redis.call('ZRANGEBYLEX', KEYS[4], '(' .. from, '+', 'LIMIT', 0, 1)[1]
    if not entry then
      return {n, ''}
    end
    local line = string.sub(entry, 1, 33)
    local turn = redis.call('HGET', KEYS[6], 'l' .. line)
    local listed = turn and redis.call('ZSCORE', KEYS[5], turn)
    local value = listed and string.sub(turn, 1, -33)
    local at = value and redis.call('HGET', KEYS[6], 't' .. value)
    listed = at and redis.call('ZSCORE', KEYS[5], 'v' .. string.sub(value, 1, -17) .. at .. string.sub(value, -16))
    if not listed then
      n = n + 1
      if mend then
        lines.unlist(line)
        lines.list(line, 'r', string.sub(entry, 34, 49))
      end
    elseif mend and string.sub(turn, 1, 1) == 'k' then
      redis.call('ZADD', KEYS[7], 'NX', 0, string.sub(turn, 2, 17)) -- should nobody be about to
    end
    from = line .. '~'
  end
  return {n, from}
end

return modes[ARGV[1]]()
