#!lua flags=allow-oom
-- Leases due runs: moves them from the ready lists into the batch of a slot.
-- Called again with the same slot it returns the same batch, so a call whose
-- reply was lost can be repeated. Called with room for nothing it returns the
-- slot's batch or, if there is none, sees to it that there never will be: a
-- call that is still on its way then takes nothing.
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; inflight, leases, takes; batch: the slot's; paused,
--       disabled; deferred: runs of disabled tasks in their order; enabling: tasks whose
--       runs are to come back from there, and up to which one that is not done;
--       waiting, rounds, policy, recheck, running, starts, rates, outbox, stages
-- ARGV  session, slot; lease: in ms; io, cpu, total: at most so many of a kind, and of
--       both together; word: '1' if the caller will sleep when there is nothing, or
--       the element by which a caller that takes from several queues watches
--       this one; aheadIO, aheadCPU: how many of a kind are to be taken only as far as
--       they are not more than an equal share of the sessions that hold some;
--       apart: '1' if the caller reads the batch itself, with the command it sends
--       behind this one: the server is faster at that than a script
-- Returns an array: first the milliseconds until the next delayed run is due, or
--       one that waits for a rate may start
--       (0: call again at once; -1: there is none, or the queue is paused; -2:
--       this slot can be used no more; -3: there is none, and nothing in flight
--       either; -4: call again once some of what large calls have committed is
--       moved by unstage.lua), then the elements of the batch, unless the caller reads them.
-- include clock.lua
-- include waiting.lua
-- include roundrobin.lua
-- include putback.lua
-- include wake.lua
local session, slot, batch = A.session, tonumber(A.slot), K.batch
local room, total, left = {tonumber(A.io), tonumber(A.cpu)}, tonumber(A.total), {}
local wanted = {room[1] > 0, room[2] > 0}
local free = {room[1] - tonumber(A.aheadIO), room[2] - tonumber(A.aheadCPU)}

-- tells producers for five minutes that somebody waits
local function sleep()
  for lane = 1, 2 do
    if wanted[lane] and A.word == '1' then
      redis.call('SET', K.idle[lane], '1', 'PX', 300000)
    end
  end
end

if #A.word > 1 then
  for lane = 1, 2 do
    local watched = watchedOf(K.wake[lane])
    if wanted[lane] and redis.call('EXISTS', watched) == 0 then
      redis.call('RPUSH', watched, A.word)
      redis.call('PEXPIRE', watched, 3600000)
    end
  end
end

-- the common case of nothing at all, in as little as possible
if total > 0 and redis.call('EXISTS', K.delayed, K.ready[1], K.ready[2], K.ready[3], K.ready[4], K.ready[5], K.ready[6], K.inflight, K.enabling, K.waiting, K.outbox, K.stages) == 0 then
  sleep()
  return {-3}
end

local leaseEnd = string.format('%.0f', now() + tonumber(A.lease))

local reply, apart = {}, A.apart == '1'
local used = redis.call('HGET', K.takes, session)
local usedLast = tonumber(used or 0)
if not usedLast or usedLast ~= usedLast or usedLast > slot + 1e12 then -- no call comes so late that its session is so far ahead
  redis.call('HSET', K.takes, session, A.slot) -- nobody knows which were used
  used = slot
end
-- Of a session that ops does not have, the batch itself says that its slot is used.
if used and tonumber(used) >= slot or not used and redis.call('EXISTS', batch) == 1 then
  if redis.call('EXISTS', batch) == 0 then
    redis.call('SREM', K.inflight, session .. ':' .. A.slot) -- of a take that failed
    return {-2}
  end
  redis.call('ZADD', K.leases, leaseEnd, session)
  if not apart then
    reply = redis.call('LRANGE', batch, 0, -1)
    table.insert(reply, 1, -1)
    return reply
  end
  return {-1}
end
if total <= 0 then
  redis.call('HSET', K.takes, session, A.slot)
  redis.call('ZADD', K.leases, leaseEnd, session) -- with which the entry goes
  return {-2}
end

local special = redis.call('EXISTS', K.paused, K.disabled, K.enabling, K.policy, K.stages) > 0
local steered = special and redis.call('EXISTS', K.paused, K.disabled, K.enabling) > 0
if steered and redis.call('EXISTS', K.paused) == 1 then
  sleep()
  return {-1}
end

-- Has recovery know of the batch. A run is added to the batch behind this, and before
-- it is removed where it was, so an error in between loses none.
local enlisted = false
local function enlist()
  if not enlisted then
    redis.call('SADD', K.inflight, session .. ':' .. A.slot)
    redis.call('ZADD', K.leases, leaseEnd, session)
    redis.call('HSET', K.takes, session, A.slot)
    enlisted = true
  end
end

-- the ready list, 1-6, that an element's header names; nil if it has none
local function laneOf(element)
  local version, _, kind, priority = string.byte(element, 1, 4)
  if version == 1 and priority and kind <= 1 and priority <= 2 and #element > 9 then
    return kind * 3 + 3 - priority
  end
end

local arrived = {}

-- include disabled.lua

local first = redis.call('ZRANGE', K.delayed, 0, 0, 'WITHSCORES')[2]
if first and tonumber(first) <= now() then
  -- Has a page of due runs wait where others do. One that cannot be read comes to
  -- whoever takes from the medium ready list of kind io, and makes a dead letter of it.
  local function makeReady(page)
    local pushed, filed = {}, {}
    local moved, plain = {}, {}
    local function push(lane)
      local elements = plain[lane] or {}
      if #elements > 0 then
        redis.call('RPUSH', K.ready[lane], unpack(elements))
        pushed[lane] = (pushed[lane] or 0) + #elements
        for _, element in ipairs(elements) do
          moved[#moved + 1] = element
        end
        plain[lane] = nil
      end
    end
    local ok, failure = pcall(function()
      for _, element in ipairs(page) do
        local lane = laneOf(element)
        if lane and hasPolicies(element) then
          push(lane) -- they came before
          local entry = inTurn().arrive(lane, K.ready[lane], element)
          if entry then
            filed[#filed + 1] = entry
          else
            pushed[lane] = (pushed[lane] or 0) + 1
          end
          moved[#moved + 1] = element
        else
          lane = lane or 2
          plain[lane] = plain[lane] or {}
          table.insert(plain[lane], element)
        end
        arrived[lane <= 3 and 1 or 2] = true
      end
      for lane = 1, 6 do
        push(lane)
      end
    end)
    local function undo()
      for lane, n in pairs(pushed) do
        redis.pcall('LTRIM', K.ready[lane], 0, -1 - n)
      end
      each(redis.pcall, 'ZREM', K.waiting, filed)
    end
    if ok then
      must(undo, 'ZREMRANGEBYRANK', K.delayed, 0, #page - 1)
    elseif #moved > 0 then
      must(undo, 'ZREM', K.delayed, unpack(moved))
    end
    if not ok then
      error(failure)
    end
  end

  makeReady(redis.call('ZRANGEBYSCORE', K.delayed, '-inf', string.format('%.0f', now()), 'LIMIT', 0, 200))
  first = redis.call('ZRANGE', K.delayed, 0, 0, 'WITHSCORES')[2]
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
    sessions = sessions or math.max(1, redis.call('ZCARD', K.leases))
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
  enlist()
  local moved
  if n == length and size == 1 then
    redis.call('RENAME', list, batch)
    moved = apart and {} or redis.call('LRANGE', batch, 0, -1)
  elseif n == 1 then
    moved = {redis.call('LMOVE', list, batch, 'LEFT', 'RIGHT')}
  else
    moved = redis.call('LRANGE', list, 0, n - 1)
    each(redis.call, 'RPUSH', batch, moved)
    must(function()
      redis.pcall('LTRIM', batch, 0, -1 - n)
    end, 'LTRIM', list, n, -1)
  end
  for i = 1, apart and 0 or n do
    reply[size + i] = moved[i]
  end
  size = size + n
  taken(lane, n)
end

local more = false -- to look at
local skipped = {} -- kinds of which a line waits for a slot that is free
local takeInTurn -- while there are lines
if rounds or special and redis.call('EXISTS', K.policy) == 1 then
  more = inTurn().wake()
  local byte = string.byte

  -- Looks at a page of the ready list, at most the budget of a call: what may start goes
  -- into the batch, the rest into lines. An error leaves what was not come to.
  local function takePage(lane, ready, n)
    local list, page = K.ready[ready], redis.call('LRANGE', K.ready[ready], 0, n - 1)
    local gather, entries = rounds.gather(n)
    local put, counted, alone = {}, {}, 0 -- alone: runs without policies, the bulk that a limit must not slow down
    local at, gathered = 0, 0
    local ok, failure = pcall(function()
      for i = 1, n do
        local element = page[i]
        local run = (byte(element, 2) or 0) % 16 >= 8 and rounds.read(element) -- a call less than bit.band
        if not run then
          alone = alone + 1
          put[#put + 1] = element
        else
          taken(lane, alone)
          alone = 0
          if rounds.come(ready, element, run, free[lane] > 0, gather) then
            counted[#counted + 1] = run
            put[#put + 1] = element
            taken(lane, 1)
          end
        end
        at, gathered = i, #entries
      end
    end)
    taken(lane, alone)
    local filed = {}
    for i = 2, gathered, 2 do
      filed[#filed + 1] = entries[i]
    end
    local function undo()
      each(redis.pcall, 'ZREM', K.waiting, filed)
      for _, run in ipairs(counted) do
        rounds.unbegin(run)
      end
    end
    local function undoAll()
      undo()
      redis.pcall('LTRIM', batch, 0, -1 - #put)
    end
    if gathered > 0 then
      must(undo, 'ZADD', K.waiting, unpack(entries, 1, gathered))
    end
    if #put > 0 then
      local enough, broken = pcall(enlist)
      if not enough then
        undo()
        error(broken)
      end
      must(undo, 'RPUSH', batch, unpack(put))
    end
    if at > 0 then
      must(undoAll, 'LTRIM', list, at, -1)
    end
    for i, element in ipairs(put) do
      reply[size + i] = element
    end
    size = size + #put
    if not ok then
      error(failure)
    end
  end

  -- takes where there are lines: one run a turn, or what is next in the ready list
  function takeInTurn(lane, list)
    local ready = (lane - 1) * 3 + list
    local function put(element)
      enlist()
      redis.call('RPUSH', batch, element)
      size = size + 1
      reply[size] = element
      taken(lane, 1)
    end
    local function unput()
      redis.pcall('LTRIM', batch, 0, -2)
    end
    local function unaside(element)
      redis.pcall('ZREM', K.deferred, element)
    end
    while room[lane] > 0 and total > 0 and rounds.budget() > 0 do
      local some, plain = rounds.waits(ready), redis.call('EXISTS', K.ready[ready]) == 1
      if not some and not plain then
        return
      end
      if some and free[lane] <= 0 then
        skipped[lane] = true
        return
      end
      local line, seen
      if some then
        line, seen = rounds.turn(ready, plain)
      end
      if line then
        rounds.start(line, seen, put, unput, setAside, unaside)
      else
        local n = share(lane, K.ready[ready], some and 1 or rounds.budget())
        if n <= 0 then
          break
        end
        takePage(lane, ready, n)
      end
    end
    if rounds.waits(ready) or redis.call('EXISTS', K.ready[ready]) == 1 then
      left[lane] = true
    end
  end
end
for priority = 1, 3 do
  for lane = 1, 2 do
    if wanted[lane] and rounds then
      takeInTurn(lane, priority)
    elseif wanted[lane] then
      take(lane, K.ready[(lane - 1) * 3 + priority])
    end
  end
end
if rounds then
  for ready in pairs(rounds.promoted) do
    arrived[ready <= 3 and 1 or 2] = true
  end
  for ready in pairs(size > 1 and rounds.later or {}) do
    left[ready <= 3 and 1 or 2] = true -- another has to learn when to look
  end
  more = more or rounds.budget() <= 0
  for lane = 1, 2 do
    -- Who has only slots that are not free yet must not wake itself again and again.
    if skipped[lane] and (size > 1 or redis.call('HGET', K.policy, 'skipped' .. lane) ~= string.format('%.0f', now() / 500)) then
      redis.call('HSET', K.policy, 'skipped' .. lane, string.format('%.0f', now() / 500))
      left[lane] = true
    end
  end
  if redis.call('EXISTS', K.ready[1], K.ready[2], K.ready[3], K.ready[4], K.ready[5], K.ready[6], K.waiting) == 0 then
    redis.call('DEL', K.rounds, K.policy, K.recheck)
  end
end
for lane = 1, 2 do
  if wanted[lane] and left[lane] or not wanted[lane] and arrived[lane] then
    wake(lane)
  end
end
if size == 1 then
  sleep()
end
local opens = rounds and rounds.due()
first = first and math.min(tonumber(first), 9999999999999)
if more or size == 1 and (looks <= 0 or bytes <= 0) then
  reply[1] = 0
elseif first or opens then
  reply[1] = math.max(0, math.min(first or opens, opens or first) - now())
end
if size == 1 and special and redis.pcall('HEXISTS', K.stages, 'runs') == 1 then
  reply[1] = -4
end
if apart then
  return {reply[1]}
end
return reply
