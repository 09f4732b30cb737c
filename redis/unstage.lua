#!lua flags=allow-oom
-- Moves a page of the runs of a large call, which commit.lua made part of the queue,
-- to where they are taken from; or takes one away, with the ids and unique keys it
-- reserves, of a call that never will be queued. Anyone may, at the same time.
--
-- An entry of a stage is: the lane, 1-6; when the run is due: '0' at once, '+' and
-- ms after the commit, '@' and ms since the epoch, 13 digits; when its unique key is
-- free: 'e' at its end, 'k' and ms after it was due, 13 digits, 13 zeros else; length
-- of its record (4 bytes), the record as enqueue.lua takes it; the element.
--
-- KEYS  1 delayed, 2-7 ready lists (io high, medium, low, cpu high, medium,
--       low), 8-9 idle flags io, cpu, 10-11 wake sets io, cpu, 12 stages, 13 staged,
--       14 the call's stage, 15 its stub, 16 lines, 17 turns, 18 policy, 19 dead,
--       20 dropped; then for each run its id key, its unique key and its record, if
--       it has them; behind these, of drop and expire, ids and unique keys that are free
--       at the end of the call if they are its own
-- ARGV  1 move; drop, by who stored the pages; or expire, by others, 2 token, 3 number
--       of runs in the stage, 4 of those on the page, its first ones, 5 cap of the dead
--       list, 6 a failure for entries that cannot be read; then for each run letters
--       for its keys, i, u, r, and '' too for an entry that cannot be read: -
-- Returns how many runs are left, also when those were not as many as the caller
--       says and nothing is done; -1 when the call is not committed, of move; -2
--       when it is, -3 when its time is not over, of the others.
-- include lines.lua
-- include wake.lua
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mode, token, n = ARGV[1], ARGV[2], tonumber(ARGV[4])
local state = redis.call('HGET', KEYS[12], token) or ''
local kind, committed = string.sub(state, 1, 1), tonumber(string.sub(state, 2))
local length = redis.call('LLEN', KEYS[14])
if mode == 'move' and kind ~= 'c' then
  return -1
elseif mode ~= 'move' and kind == 'c' or mode == 'drop' and kind == '' and redis.call('EXISTS', KEYS[15]) == 1 then
  return -2 -- in the second case all of it was moved already
elseif mode == 'expire' and kind == 'o' and committed > now and committed <= now + 10000 then
  return -3 -- one further ahead is of a clock that was put back since
end
if mode ~= 'move' and kind == 'o' then
  redis.call('HSET', KEYS[12], token, 'x') -- it can be committed no more
end
if length ~= tonumber(ARGV[3]) then
  return length
end
if mode == 'move' then -- these fail before anything is written, if they are not what they have to be
  redis.call('LLEN', KEYS[13])
  redis.call('HINCRBY', KEYS[12], 'runs', 0)
  committed = math.min(committed, now) -- also if the clock was put back since
end
local page = n > 0 and redis.call('LRANGE', KEYS[14], 0, n - 1) or {}

if mode ~= 'move' then
  local k = 21
  for i, entry in ipairs(page) do
    for letter in string.gmatch(ARGV[6 + i], '[iur]') do
      local owner = letter ~= 'r' and redis.call('GET', KEYS[k])
      if owner and string.sub(owner, -#token) == token then
        redis.call('DEL', KEYS[k])
      end
      k = k + 1
    end
  end
  redis.call('LTRIM', KEYS[14], #page, -1)
  if length == #page then
    for i = k, #KEYS do -- what it owns of which no entry tells
      local owner = redis.call('GET', KEYS[i])
      if owner and string.sub(owner, -#token) == token then
        redis.call('DEL', KEYS[i])
      end
    end
    redis.call('HDEL', KEYS[12], token)
  end
  return length - #page
end

local lines, gather, entries
local ready, looked, delayed, owned, woken, earliest, later = {}, {}, {}, {}, {}, nil, {}

-- notes that a run is due
local function arrive(lane, element)
  woken[lane <= 3 and 1 or 2] = true
  ready[lane] = ready[lane] or {}
  if bit.band(string.byte(element, 2), 8) == 0 then
    table.insert(ready[lane], element)
    return
  end
  if not lines then
    lines = policies(KEYS[16], KEYS[17], KEYS[18])
    gather, entries = lines.gather(#page)
  end
  local run = lines.read(element)
  if not run or run.fair == '' then
    lines.mark()
    table.insert(ready[lane], element)
    return
  end
  if not looked[lane] and (#ready[lane] > 0 or redis.call('EXISTS', KEYS[1 + lane]) == 1) then
    lines.join('r' .. lane .. lines.none) -- they came before
  end
  looked[lane] = true
  local line = lane .. run.name
  gather(line, element, not lines.has(line) and 'r' or nil)
end

local spec, at, score -- when the run in hand is due; most are due when the one before is

-- notes what the keys of a run are to be from the k-th on, and returns which is behind them
local function own(entry, letters, k, size, element)
  for letter in string.gmatch(letters, '[iur]') do
    local value, free = string.sub(token, 7), nil
    if letter == 'u' then
      value = string.sub(element, 10, 9 + string.byte(element, 9)) .. ' ' .. value
      if string.sub(entry, 16, 16) == 'k' then
        free = string.format('%.0f', math.max(1, at + tonumber(string.sub(entry, 17, 29)) - now))
      end
    elseif letter == 'r' then
      value = string.sub(entry, 34, 33 + size)
      if string.byte(spec) ~= 48 then
        value = string.format(at > now and 'd%013.0f' or 'q%013.0f', at) .. string.sub(value, 2)
      end
    end
    owned[#owned + 1] = free and {'SET', KEYS[k], value, 'PX', free} or {'SET', KEYS[k], value}
    k = k + 1
  end
  return k
end

-- notes where the run of an entry goes, and what its keys are to be from the k-th on
local function place(entry, letters, k)
  local lane, due = string.byte(entry) - 48, string.sub(entry, 2, 15)
  if due ~= spec then
    local kind, ms = string.byte(due), tonumber(string.sub(due, 2))
    spec, at = due, committed
    if kind ~= 48 then
      at = math.min(kind == 43 and committed + ms or ms, 9999999999999)
    end
    score = string.format('%.0f', at)
  end
  local a, b, c, d = string.byte(entry, 30, 33)
  local size = ((a * 256 + b) * 256 + c) * 256 + d
  local element = string.sub(entry, 34 + size)
  if letters ~= '' then
    k = own(entry, letters, k, size, element)
  end
  if at <= now then
    arrive(lane, element)
    return k
  end
  delayed[#delayed + 1] = score
  delayed[#delayed + 1] = element
  if not earliest or at < earliest then
    earliest, later = at, {}
  end
  if at == earliest then
    later[lane <= 3 and 1 or 2] = true
  end
  return k
end

local buried, k = {}, 21
for i, entry in ipairs(page) do
  if ARGV[6 + i] == '-' then
    buried[#buried + 1] = string.format('%013.0f', now) .. ARGV[6] .. entry
  else
    k = place(entry, ARGV[6 + i], k)
  end
end

-- An error leaves all of the page in the stage, and nothing of it elsewhere.
local pushed, died, counted = {}, 0, 0
local function undo()
  redis.pcall('HINCRBY', KEYS[12], 'runs', counted)
  if died > 0 then
    redis.pcall('LTRIM', KEYS[19], died, -1)
  end
  for lane, n in pairs(pushed) do
    redis.pcall('LTRIM', KEYS[1 + lane], 0, -1 - n)
  end
  for i = 2, #delayed, 2 do
    redis.pcall('ZREM', KEYS[1], delayed[i])
  end
  for i = 2, #(entries or {}), 2 do
    redis.pcall('ZREM', KEYS[16], entries[i])
  end
end
local function call(...)
  return must(undo, ...)
end
for _, set in ipairs(owned) do
  call(unpack(set))
end
for lane, list in pairs(ready) do
  for i = 1, #list, 4000 do
    local last = math.min(i + 3999, #list)
    call('RPUSH', KEYS[1 + lane], unpack(list, i, last))
    pushed[lane] = last
  end
end
each(call, 'ZADD', KEYS[1], delayed)
each(call, 'ZADD', KEYS[16], entries or {})
if #buried > 0 then
  each(call, 'LPUSH', KEYS[19], buried)
  died = #buried
end
call('HINCRBY', KEYS[12], 'runs', 0 - #page) -- not -0, which is no integer
counted = #page
call('LTRIM', KEYS[14], #page, -1)

-- An error from here on leaves what the next call does, though its page is empty.
local over = #buried > 0 and redis.call('LLEN', KEYS[19]) - tonumber(ARGV[5]) or 0
if over > 0 then
  redis.call('LTRIM', KEYS[19], 0, tonumber(ARGV[5]) - 1)
  redis.call('INCRBY', KEYS[20], over)
end
if length == #page then
  redis.call('SET', KEYS[15], '', 'PX', 60000) -- so that a repeated commit learns of it
  redis.call('LREM', KEYS[13], 1, token)
  if redis.call('EXISTS', KEYS[13]) == 0 then
    redis.call('HDEL', KEYS[12], token, 'runs')
  else
    redis.call('HDEL', KEYS[12], token)
  end
end

-- Whoever waits for the first delayed run has to learn that it is another now.
if earliest and tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) == earliest then
  for lane in pairs(later) do
    woken[lane] = true
  end
end
for lane in pairs(woken) do
  wake(lane)
end
return length - #page
