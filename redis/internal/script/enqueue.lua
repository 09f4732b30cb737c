#!lua
-- Queues the runs of calls. Each call is stored whole or not at all.
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; ticks, disabled, dead, outbox, backlogs, rounds, policy,
--       ended: of failures;
--       then for each call its id keys, its unique keys and its record keys
-- ARGV  token: unlike that of any other execution; calls: their number; then for each call
--         1. its source, see below
--         2. the field of ticks: the task; for a dynamic schedule also a space and the
--            schedule's id. '' if the call is no tick
--         3. depends on the call:
--              a tick: 20 digits; for a dynamic schedule also its revision, 16 digits
--              source o, n or m, and the run has a record: the record to set if the run is
--              skipped: ms to keep it, a space, the run's id, a space, and the record up to
--              the id of the run in its way
--              else ''
--         4. the number of id keys
--         5. the number of unique keys; for each: the run's id, due, and how many ms after
--            that the key is free again, '' for at the run's end
--         6. the number of ready lists; for each: list 1-6, count, stored runs
--         7. the number of dues; for each: due, list 1-6, count, stored runs. Runs with a fair
--            value are here too, with the due '' if they are due at once
--         8. the number of records; for each: due and the record without its time, or ''
--            and the whole record if the run is due at once
--       A due is ms since the epoch, or '+' and ms from now.
--       The source is the entry that the call replaces, in the same step:
--         ''  none
--         d   an entry of dead: d and the entry
--         o   an entry of outbox: o and the entry
--         n   the same, but the entry stays if the run is skipped: it is to end as the member of
--             its group in the step that removes the entry
--         g   the same of a run that awaited a group: g, the entry's token and stored run; the
--             first id key is its pendingRun
--         p   none, but the run awaited a group: p and the token; the first id key is its
--             pendingRun, and the second is set, and says that the entry can be removed
--         m   an entry of another queue's outbox; the first id key is set, and says that the
--             entry can be removed there
--         ms  the same, but the key is not set if the run is skipped: it is a dead letter, or to
--             end as the member of its group
--         b   none, but the runs are members of a group: b and the token that reserved the
--             group; the first id key is the group
-- Returns for each call
--         0  it is stored, by this execution or by an earlier one with the same token
--         1  an id is live already
--         2  the tick was claimed already
--         3  the task of the tick is disabled
--         4  the source is not there, or was replaced already
--         5  the schedule is not there with that revision, or what ticks has is no tick;
--            restoretick.lua says which
--         6  a call that is not decided (stage.lua) has reserved an id or a unique key
--         7  of the source g or p: its pendingRun is gone, and it was not stored before by the
--            source p: it was cancelled, or the key is lost
--         an array: in turn the place among the call's unique keys, from 1, and the id of the
--            live run that has the key; the tick is claimed then
--         a text: the error after which nothing of the call is stored
--       The server refuses it at maxmemory, before anything is done. If the first call has a
--       source other than b, and a key is of another type than is written, it returns
--       WRONGTYPE, before anything is done.
-- include clock.lua
-- include tick.lua
-- include backlogs.lua
-- include readylists.lua
-- include wake.lua
-- include read.lua
local token -- of the call in hand
local woken, earliest, earliestKind = {}, nil, nil

local function due(spec)
  local at = now()
  if string.sub(spec, 1, 1) == '+' then
    at = now() + tonumber(string.sub(spec, 2))
  elseif spec ~= '' then
    at = tonumber(spec)
  end
  return math.min(at, 9999999999999) -- a record has 13 digits
end

local undone = {} -- the commands that take back the call in hand, as far as it is stored
local begun -- some of its ids are stored
local later = {} -- its delayed runs, each behind its score
local firstRecord, lastRecord = 1, 0 -- its records in KEYS, as far as they are stored

-- adds a run that is due to its ready list or backlog
local function arrive(list, stored)
  local entry
  if hasPolicies(stored) then
    entry = backlogs().arrive(list, K.ready[list], stored)
  else
    redis.call('RPUSH', K.ready[list], stored)
  end
  undone[#undone + 1] = entry and {'ZREM', K.backlogs, entry} or {'LTRIM', K.ready[list], 0, -2}
end

-- whether some of the next n arguments, which are stored runs, have limits
local function limited(n)
  local byte, argv = string.byte, ARGV
  for i = argsRead + 1, argsRead + n do
    local flags = byte(argv[i], 2)
    if flags and flags % 16 >= 8 then
      return true
    end
  end
end

-- appends the next n arguments to a list, without reading them
local function push(key, n)
  local last = argsRead + n
  for i = argsRead + 1, last, 4000 do
    local to = math.min(i + 3999, last)
    redis.call('RPUSH', key, unpack(ARGV, i, to))
    undone[#undone + 1] = {'LTRIM', key, 0, i - to - 2}
  end
end

local places = {d = K.dead, o = K.outbox, n = K.outbox}

-- Returns the status of a call whose id keys and unique keys are the next keys: 0 to store
-- it, 1 to 7 or an array to refuse it, -1 if an earlier execution with this token has stored
-- it, even if its runs have ended since. It leaves the keys to be read.
local function check(source, task, tick, ids, uniques)
  local live, others, undecided = false, {}, false
  local from, rest = string.sub(source, 1, 1), string.sub(source, 2)
  local pendingToken = (from == 'p' or from == 'g') and string.sub(rest, 1, 16)
  local first = keysRead + 1
  local firstID = first
  if from == 'b' then
    local has = redis.call('HMGET', KEYS[first], 'begun', 'then')
    if has[1] == rest then
      return -1
    elseif not has[2] or string.sub(has[2], 2, 17) ~= rest then
      return 4
    end
    firstID = first + 1
  end
  for i = firstID, first + ids - 1 do
    local owner = not (from == 'p' and i == first + 1) and redis.call('GET', KEYS[i])
    if pendingToken and i == first then
      if not owner or string.sub(owner, 1, 16) ~= pendingToken then
        return from == 'p' and redis.call('EXISTS', KEYS[first + 1]) == 1 and 4 or 7
      end
    elseif from == 'm' and i == first then
      if owner then
        return owner == token and -1 or 4
      end
    elseif owner == token or owner == 'ended:' .. token then
      return -1
    else
      undecided = undecided or owner and string.sub(owner, 1, 6) == 'stage:'
      live = live or owner and string.sub(owner, 1, 6) ~= 'ended:' and owner ~= 'pending:' .. (pendingToken or '')
    end
  end
  for i = 1, uniques do
    local owner = redis.call('GET', KEYS[first + ids + i - 1])
    if owner then
      local id, by = string.match(owner, '^(.*) (.*)$')
      if by == token then
        return -1
      end
      undecided = undecided or by and string.sub(by, 1, 6) == 'stage:'
      if string.sub(owner, 1, 1) ~= ' ' and by ~= 'pending:' .. (pendingToken or '') then -- else its run has ended, or is this one
        others[#others + 1] = i
        others[#others + 1] = id
      end
    end
  end
  if undecided then
    return 6
  end
  if (live or #others > 0) and from == 'o' then
    if redis.call('LREM', K.outbox, 1, rest) == 0 then
      return 4
    end
    undone[1] = {'RPUSH', K.outbox, rest}
  end
  if live and #others == 0 then
    return 1
  end
  if task ~= '' then
    local last = redis.call('HGET', K.ticks, task)
    if last and not isTick(last, string.sub(tick, 21)) or not last and #tick > 20 then
      return 5
    elseif last and last >= tick then
      return 2
    elseif redis.call('SISMEMBER', K.disabled, string.match(task, '^[^ ]*')) == 1 then
      return 3
    end
  end
  return #others > 0 and others or 0
end

-- Removes the source of a call, after all runs of the call are added. Returns false if the
-- source is not there.
local function replace(source, key)
  local from, rest = string.sub(source, 1, 1), string.sub(source, 2)
  if places[from] then
    if redis.call('LREM', places[from], from == 'd' and -1 or 1, rest) == 0 then
      return false
    end
    undone[#undone + 1] = {'LPUSH', places[from], rest}
  elseif from == 'b' then
    local left = redis.call('PTTL', key)
    undone[#undone + 1] = {'HDEL', key, 'begun'}
    redis.call('HSET', key, 'begun', rest)
    if left > 0 then
      undone[#undone + 1] = {'PEXPIRE', key, left}
    end
    redis.call('PERSIST', key)
  elseif from == 'p' or from == 'g' then
    if from == 'g' and redis.call('LREM', K.outbox, 1, '+' .. rest) > 0 then
      undone[#undone + 1] = {'LPUSH', K.outbox, '+' .. rest}
    end
    local marker = redis.call('GET', key)
    redis.call('DEL', key)
    undone[#undone + 1] = {'SET', key, marker, 'PX', 2592000000}
  end
  return true
end

-- takes the call back whose keys begin at first
local function takeBack(first, ids, uniques)
  for i = firstRecord, lastRecord do
    redis.pcall('DEL', KEYS[i])
  end
  for i = #undone, 1, -1 do
    redis.pcall(unpack(undone[i]))
  end
  for i = 2, #later, 2 do
    redis.pcall('ZREM', K.delayed, later[i])
  end
  for i = first, begun and first + ids + uniques - 1 or 0 do
    local owner = redis.pcall('GET', KEYS[i])
    if owner == token or type(owner) == 'string' and string.sub(owner, -1 - #token) == ' ' .. token then
      redis.pcall('DEL', KEYS[i])
    end
  end
end

-- sets the record of a run that is skipped as a duplicate, unless a live run has it
local function recordSkipped(key, spec, status)
  local state = redis.call('GETRANGE', key, 0, 0)
  if state == '' or state == 's' or state == 'f' then
    local ms, id, record = string.match(spec, '^(%d+) (%S+) (.*)$')
    local by = status == 1 and id or status[2]
    redis.call('SET', key, record .. string.char(0xc4, #by) .. by, 'PX', ms)
-- include addended.lua
    addEnded(K.ended, id, tonumber(ms))
  end
end

-- A run that replaces its source would be lost if a write failed after the source is gone.
-- Calls of producers have none, and need not pay for this; a reserved group loses nothing.
local firstSource = ARGV[#A + 1]
if firstSource ~= '' and string.sub(firstSource, 1, 1) ~= 'b' then
  local wrong
  local function requireType(key, want, name)
    local keyType = redis.call('TYPE', key).ok
    if keyType ~= want and keyType ~= 'none' then
      wrong = wrong or 'WRONGTYPE ' .. (name or key) .. ' is a ' .. keyType .. ', and has to be a ' .. want
    end
  end
  requireType(K.delayed, 'zset')
  for list = 1, 6 do
    requireType(K.ready[list], 'list')
  end
  requireType(K.backlogs, 'zset')
  requireType(K.rounds, 'zset')
  requireType(K.policy, 'hash')
  for i = #K + 1, #KEYS do
    requireType(KEYS[i], 'string', 'a key of a run')
  end
  if wrong then
    return redis.error_reply(wrong)
  end
end

-- Reads a call's keys and arguments, and stores the call if its status is 0. Returns the
-- status. After an error nothing of the call is stored.
local function readCall(status, source, task, tick, ids, uniques)
  local store = status == 0
  local duplicate = status == 1 or type(status) == 'table'
  local first = keysRead + 1
  if store then
    begun = true
    for i = first, first + ids - 1 do
      if i > first or not string.find(source, '^[pgb]') then
        redis.call('SET', KEYS[i], token)
      end
    end
  elseif duplicate and source == 'm' then
    redis.call('SET', KEYS[first], 'skipped')
    undone[#undone + 1] = {'DEL', KEYS[first]}
  end
  keysRead = keysRead + ids
  for _ = 1, uniques do
    local key, id, from, ms = nextKey(), nextArg(), nextArg(), nextArg()
    if store and ms == '' then
      redis.call('SET', key, id .. ' ' .. token)
    elseif store then
      local free = math.max(1, due(from) - now() + tonumber(ms))
      redis.call('SET', key, id .. ' ' .. token, 'PX', string.format('%.0f', free))
    end
  end
  for _ = 1, tonumber(nextArg()) do
    local list, n = tonumber(nextArg()), tonumber(nextArg())
    if store then
      if limited(n) then
        backlogs().noteLimits()
      end
      push(K.ready[list], n)
      woken[kindOf(list)] = true
    end
    argsRead = argsRead + n
  end
  later = {}
  for _ = 1, tonumber(nextArg()) do
    local at, list, n = due(nextArg()), tonumber(nextArg()), tonumber(nextArg())
    if store and at <= now() then
      for i = argsRead + 1, argsRead + n do
        arrive(list, ARGV[i])
      end
      woken[kindOf(list)] = true
    elseif store then
      local score, size = string.format('%.0f', at), #later
      for i = 1, n do
        later[size + i * 2 - 1], later[size + i * 2] = score, ARGV[argsRead + i]
      end
      if not earliest or at < earliest then
        earliest, earliestKind = at, kindOf(list)
      end
    end
    argsRead = argsRead + n
  end
  each(redis.call, 'ZADD', K.delayed, later)
  if store and source ~= '' and not replace(source, KEYS[first]) then
    takeBack(first, ids, uniques)
    status, store, undone = 4, false, {}
  end
  if task ~= '' and (store or type(status) == 'table') then
    local last = redis.call('HGET', K.ticks, task)
    redis.call('HSET', K.ticks, task, tick) -- a call that cannot be stored claims no tick
    undone[#undone + 1] = last and {'HSET', K.ticks, task, last} or {'HDEL', K.ticks, task}
  end
  firstRecord = keysRead + 1
  for _ = 1, tonumber(nextArg()) do
    local key, spec, record = nextKey(), nextArg(), nextArg()
    if not store then -- the record belongs to another run
      if duplicate and task == '' and tick ~= '' then
        recordSkipped(key, tick, status)
      end
    elseif spec == '' then
      redis.call('SET', key, record)
    else
      local at = due(spec)
      redis.call('SET', key, string.format(at > now() and 'd%013.0f' or 'q%013.0f', at) .. string.sub(record, 2))
    end
    lastRecord = store and keysRead or lastRecord
  end
  return status == -1 and 0 or status
end

local reply = {}
for place = 1, tonumber(A.calls) do
  token, undone, begun = A.token .. '.' .. place, {}, false
  later, firstRecord, lastRecord = {}, 1, 0
  local source, task, tick = nextArg(), nextArg(), nextArg()
  local ids, uniques = tonumber(nextArg()), tonumber(nextArg())
  local args, first = argsRead, keysRead + 1
  local ok, status = pcall(function()
    return readCall(check(source, task, tick, ids, uniques), source, task, tick, ids, uniques)
  end)
  if not ok then
    local failure = status
    takeBack(first, ids, uniques)
    argsRead, keysRead = args, first - 1
    readCall(5, '', '', '', ids, uniques) -- stores nothing, and goes on to the next call
    status = type(failure) == 'table' and failure.err or tostring(failure)
  end
  reply[place] = status
end

-- A consumer that waits for the first delayed run has to learn that it is another now.
if earliest then
  local first = redis.pcall('ZRANGE', K.delayed, 0, 0, 'WITHSCORES')
  if tonumber(first[2]) == earliest then
    woken[earliestKind] = true
  end
end
for kind in pairs(woken) do
  wake(kind)
end
return reply
