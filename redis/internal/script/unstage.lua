#!lua flags=allow-oom
-- Moves a page of the runs of a committed large call (commit.lua) to where takes find them; or
-- removes a page of a call that never will be queued, and the ids and unique keys that it
-- reserves. Anyone may, at the same time.
--
-- An entry of a stage is
--       1 byte     the ready list, 1-6
--       14 bytes   when the run is due: '0' at once, '+' and ms after the commit, '@' and ms
--                  since the epoch, 13 digits
--       14 bytes   when its unique key is free: 'e' at its end, 'k' and ms after it was due,
--                  13 digits, else 13 zeros
--       4 bytes    the length of its record
--       then       the record as enqueue.lua takes it, and the stored run
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; stages, staged; stage: the call's; stub: the call's;
--       backlogs, rounds, policy, dead, trimmed; then for each run its id key, its unique key
--       and its record, if it has them; then, of drop and expire, ids and unique keys that
--       are freed at the end of the call if it owns them
-- ARGV  mode: move; drop, by the producer; or expire, by others; token: the call's; left:
--       number of runs in the stage; page: number of those on the page, its first ones;
--       maxDead: cap of the dead list; failure: of entries that cannot be read; then for
--       each run letters for its keys, i, u, r, or '-' for an entry that cannot be read
-- Returns how many runs are left, also if the stage has another number of runs than the caller
--       says, and nothing is moved or removed; or
--         -1  of move: the call is not committed
--         -2  of drop and expire: the call is committed
--         -3  of expire: the time of the call is not over
-- After an error the page is in the stage, and its runs are nowhere else.
-- include clock.lua
-- include backlogs.lua
-- include deadletters.lua
-- include readylists.lua
-- include wake.lua
-- include read.lua
local mode, token, n = A.mode, A.token, tonumber(A.page)
local state = redis.call('HGET', K.stages, token) or ''
local phase, committed = string.sub(state, 1, 1), tonumber(string.sub(state, 2))
local length = redis.call('LLEN', K.stage)
if mode == 'move' and phase ~= 'c' then
  return -1
elseif mode ~= 'move' and phase == 'c' or mode == 'drop' and phase == '' and redis.call('EXISTS', K.stub) == 1 then
  return -2 -- in the second case all of it was moved already
elseif mode == 'expire' and phase == 'o' and committed > now() and committed <= now() + 10000 then
  return -3 -- one further ahead is of a clock that was put back since
end
if mode ~= 'move' and phase == 'o' then
  redis.call('HSET', K.stages, token, 'x') -- it can be committed no more
end
if length ~= tonumber(A.left) then
  return length
end
if mode == 'move' then -- these fail before anything is written, if they are not what they have to be
  redis.call('LLEN', K.staged)
  redis.call('HINCRBY', K.stages, 'runs', 0)
  committed = math.min(committed, now()) -- also if the clock was put back since
end
local page = n > 0 and redis.call('LRANGE', K.stage, 0, n - 1) or {}

if mode ~= 'move' then
  for _ = 1, #page do
    for letter in string.gmatch(nextArg(), '[iur]') do
      local key = nextKey()
      local owner = letter ~= 'r' and redis.call('GET', key)
      if owner and string.sub(owner, -#token) == token then
        redis.call('DEL', key)
      end
    end
  end
  redis.call('LTRIM', K.stage, #page, -1)
  if length == #page then
    for key in nextKey do -- what it owns of which no entry tells
      local owner = redis.call('GET', key)
      if owner and string.sub(owner, -#token) == token then
        redis.call('DEL', key)
      end
    end
    redis.call('HDEL', K.stages, token)
  end
  return length - #page
end

local gather, entries
local ready, looked, delayed, owned, woken, earliest, later = {}, {}, {}, {}, {}, nil, {}

-- collects a run that is due
local function arrive(list, stored)
  woken[kindOf(list)] = true
  ready[list] = ready[list] or {}
  if not hasPolicies(stored) then
    table.insert(ready[list], stored)
    return
  end
  local all = backlogs()
  if not gather then
    gather, entries = all.gather(#page)
  end
  local run = all.read(stored)
  if not run or run.fair == '' then
    all.noteLimits()
    table.insert(ready[list], stored)
    return
  end
  if not looked[list] and (#ready[list] > 0 or redis.call('EXISTS', K.ready[list]) == 1) then
    all.join('r' .. list .. all.none) -- they came before
  end
  looked[list] = true
  local backlog = list .. run.name
  gather(backlog, stored, not all.has(backlog) and 'r' or nil)
end

local spec, at, score -- when the run in hand is due; most are due when the one before is

-- collects the values of a run's keys, which are the next ones
local function own(entry, letters, size, stored)
  for letter in string.gmatch(letters, '[iur]') do
    local key, value, free = nextKey(), string.sub(token, 7), nil
    if letter == 'u' then
      value = string.sub(stored, 10, 9 + string.byte(stored, 9)) .. ' ' .. value
      if string.sub(entry, 16, 16) == 'k' then
        free = string.format('%.0f', math.max(1, at + tonumber(string.sub(entry, 17, 29)) - now()))
      end
    elseif letter == 'r' then
      value = string.sub(entry, 34, 33 + size)
      if string.byte(spec) ~= 48 then
        value = string.format(at > now() and 'd%013.0f' or 'q%013.0f', at) .. string.sub(value, 2)
      end
    end
    owned[#owned + 1] = free and {'SET', key, value, 'PX', free} or {'SET', key, value}
  end
end

-- collects the run of an entry, and the values of its keys
local function place(entry, letters)
  local list, due = string.byte(entry) - 48, string.sub(entry, 2, 15)
  if due ~= spec then
    local sign, ms = string.byte(due), tonumber(string.sub(due, 2))
    spec, at = due, committed
    if sign ~= 48 then
      at = math.min(sign == 43 and committed + ms or ms, 9999999999999)
    end
    score = string.format('%.0f', at)
  end
  local a, b, c, d = string.byte(entry, 30, 33)
  local size = ((a * 256 + b) * 256 + c) * 256 + d
  local stored = string.sub(entry, 34 + size)
  if letters ~= '' then
    own(entry, letters, size, stored)
  end
  if at <= now() then
    arrive(list, stored)
    return
  end
  delayed[#delayed + 1] = score
  delayed[#delayed + 1] = stored
  if not earliest or at < earliest then
    earliest, later = at, {}
  end
  if at == earliest then
    later[kindOf(list)] = true
  end
end

local buried = {}
for _, entry in ipairs(page) do
  local letters = nextArg()
  if letters == '-' then
    buried[#buried + 1] = deadLetter(A.failure .. entry)
  else
    place(entry, letters)
  end
end

-- An error leaves all of the page in the stage, and nothing of it elsewhere.
local pushed, died, counted = {}, 0, 0 -- by ready list; new dead letters; runs that left the stage
local function undo()
  redis.pcall('HINCRBY', K.stages, 'runs', counted)
  if died > 0 then
    redis.pcall('LTRIM', K.dead, died, -1)
  end
  for list, size in pairs(pushed) do
    redis.pcall('LTRIM', K.ready[list], 0, -1 - size)
  end
  for i = 2, #delayed, 2 do
    redis.pcall('ZREM', K.delayed, delayed[i])
  end
  for i = 2, #(entries or {}), 2 do
    redis.pcall('ZREM', K.backlogs, entries[i])
  end
end
local function call(...)
  return must(undo, ...)
end
for _, set in ipairs(owned) do
  call(unpack(set))
end
for list, runs in pairs(ready) do
  for i = 1, #runs, 4000 do
    local last = math.min(i + 3999, #runs)
    call('RPUSH', K.ready[list], unpack(runs, i, last))
    pushed[list] = last
  end
end
each(call, 'ZADD', K.delayed, delayed)
each(call, 'ZADD', K.backlogs, entries or {})
if #buried > 0 then
  each(call, 'LPUSH', K.dead, buried)
  died = #buried
end
call('HINCRBY', K.stages, 'runs', 0 - #page) -- not -0, which is no integer
counted = #page
call('LTRIM', K.stage, #page, -1)

-- An error from here on leaves what the next call does, though its page is empty.
if #buried > 0 then
  trimOldest(redis.call('LLEN', K.dead))
end
if length == #page then
  redis.call('SET', K.stub, '', 'PX', 60000) -- so that a repeated commit learns of it
  redis.call('LREM', K.staged, 1, token)
  if redis.call('EXISTS', K.staged) == 0 then
    redis.call('HDEL', K.stages, token, 'runs')
  else
    redis.call('HDEL', K.stages, token)
  end
end

-- A consumer that waits for the first delayed run has to learn that it is another now.
if earliest and tonumber(redis.call('ZRANGE', K.delayed, 0, 0, 'WITHSCORES')[2]) == earliest then
  for kind in pairs(later) do
    woken[kind] = true
  end
end
for kind in pairs(woken) do
  wake(kind)
end
return length - #page
