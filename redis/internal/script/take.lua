#!lua flags=allow-oom
-- Moves due runs from the ready lists and the backlogs into a new batch, and leases them.
-- Called again with the same number it returns the same batch, so that a call whose reply was
-- lost can be repeated. Called with room for nothing it returns the batch or, if there is
-- none, makes the number unusable: a call that is still on its way then takes nothing.
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; inflight, leases, takes; batch: the one to fill; paused,
--       disabled; deferred: runs of disabled tasks in their order; enabling: tasks that are
--       enabled again, each with the score in deferred below which its runs are still to
--       come back;
--       backlogs, rounds, policy, recheck, running, starts, rates, outbox, stages, limits
-- ARGV  session; number: the batch's in the session; lease: in ms; io, cpu, total: at most
--       so many runs of a kind, and of both together
--       announce: '1' to note, if there is nothing, that the caller waits for a wake token;
--       '0' not to note it; else the watch token of a caller that takes from several queues,
--       which is left in the watched lists in any case
--       prefetchIO, prefetchCPU: how many of io and cpu have no free slot yet: beyond its free
--       slots the caller gets no more of a ready list than an equal share among the sessions
--       that have a lease
--       apart: '1' if the caller reads the batch itself, with a command behind this one: the
--       server is faster at that than a script
--       limits: what the caller's program says of limits: its version, then of each limit the
--       stem, the maximum and the time in µs, with spaces between; may be missing
-- Returns an array: first the milliseconds until the next delayed run is due or a rate has
--       room, or
--          0  call again at once
--         -1  nothing will be due, or the queue is paused
--         -2  the number can be used no more
--         -3  there is nothing, and nothing in flight either
--         -4  call again after unstage.lua has moved some runs of large calls
--       then the stored runs of the batch, unless the caller reads them
-- include clock.lua
-- include backlogs.lua
-- include limitstem.lua
-- include programlimits.lua
-- include roundrobin.lua
-- include putback.lua
-- include readylists.lua
-- include wake.lua
local session, number, batch = A.session, tonumber(A.number), K.batch
local total = tonumber(A.total) -- how many more runs may be taken
local room = {tonumber(A.io), tonumber(A.cpu)} -- the same by kind
local free = {room[1] - tonumber(A.prefetchIO), room[2] - tonumber(A.prefetchCPU)} -- the same without prefetching
local wanted = {room[1] > 0, room[2] > 0} -- kinds
local left = {} -- kinds of which runs can be taken after this

-- notes for five minutes that a consumer waits for a token
local function announceWait()
  for kind = 1, 2 do
    if wanted[kind] and A.announce == '1' then
      redis.call('SET', K.idle[kind], '1', 'PX', 300000)
    end
  end
end

if #A.announce > 1 then
  for kind = 1, 2 do
    local watched = watchedOf(K.wake[kind])
    if wanted[kind] and redis.call('EXISTS', watched) == 0 then
      redis.call('RPUSH', watched, A.announce)
      redis.call('PEXPIRE', watched, 3600000)
    end
  end
end

-- Nothing at all is the common case, and costs as little as possible.
if total > 0 and redis.call('EXISTS', K.delayed, K.ready[1], K.ready[2], K.ready[3], K.ready[4], K.ready[5], K.ready[6], K.inflight, K.enabling, K.backlogs, K.outbox, K.stages) == 0 then
  announceWait()
  return {-3}
end

local leaseEnd = string.format('%.0f', now() + tonumber(A.lease))

-- The session has used the number if takes has it or a later one. If takes has none of the
-- session, the number is used if its batch is there. If takes has no number there, or one
-- further ahead than a session can be, the number counts as used.
local used = redis.call('HGET', K.takes, session)
local usedLast = tonumber(used or 0)
if not usedLast or usedLast ~= usedLast or usedLast > number + 1e12 then
  redis.call('HSET', K.takes, session, A.number)
  usedLast = number
end
local reply, apart = {}, A.apart == '1'
if used and usedLast >= number or not used and redis.call('EXISTS', batch) == 1 then
  if redis.call('EXISTS', batch) == 0 then
    redis.call('SREM', K.inflight, session .. ':' .. A.number) -- of a take that failed
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
  redis.call('HSET', K.takes, session, A.number)
  redis.call('ZADD', K.leases, leaseEnd, session) -- the entry of takes goes with the lease
  return {-2}
end

local special = redis.call('EXISTS', K.paused, K.disabled, K.enabling, K.policy, K.stages) > 0
local operated = special and redis.call('EXISTS', K.paused, K.disabled, K.enabling) > 0
if operated and redis.call('EXISTS', K.paused) == 1 then
  announceWait()
  return {-1}
end

-- Lists the batch for recovery. A run is added to the batch after this, and before it is
-- removed where it was, so that an error in between loses none.
local enlisted = false
local function enlist()
  if not enlisted then
    redis.call('SADD', K.inflight, session .. ':' .. A.number)
    redis.call('ZADD', K.leases, leaseEnd, session)
    redis.call('HSET', K.takes, session, A.number)
    enlisted = true
  end
end

local arrived = {} -- kinds of which runs became ready

-- include disabled.lua

local first = redis.call('ZRANGE', K.delayed, 0, 0, 'WITHSCORES')[2]
if first and tonumber(first) <= now() then
  -- Moves a page of due runs to their ready lists and backlogs. A run that cannot be read goes
  -- to the medium list of kind io: who takes it makes a dead letter of it.
  local function makeReady(page)
    local pushed, filed = {}, {}
    local moved, plain = {}, {}
    local function push(list)
      local storedRuns = plain[list] or {}
      if #storedRuns > 0 then
        redis.call('RPUSH', K.ready[list], unpack(storedRuns))
        pushed[list] = (pushed[list] or 0) + #storedRuns
        for _, stored in ipairs(storedRuns) do
          moved[#moved + 1] = stored
        end
        plain[list] = nil
      end
    end
    local ok, failure = pcall(function()
      for _, stored in ipairs(page) do
        local list = listOf(stored)
        if list and hasPolicies(stored) then
          push(list) -- the plain runs before this one in the page
          local entry = inTurn().arrive(list, K.ready[list], stored)
          if entry then
            filed[#filed + 1] = entry
          else
            pushed[list] = (pushed[list] or 0) + 1
          end
          moved[#moved + 1] = stored
        else
          list = list or 2
          plain[list] = plain[list] or {}
          table.insert(plain[list], stored)
        end
        arrived[kindOf(list)] = true
      end
      for list = 1, 6 do
        push(list)
      end
    end)
    local function undo()
      for list, n in pairs(pushed) do
        redis.pcall('LTRIM', K.ready[list], 0, -1 - n)
      end
      each(redis.pcall, 'ZREM', K.backlogs, filed)
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
local sessions -- how many have a lease
local size = 1 -- of the reply; it has the runs even if the caller reads them

-- how many runs of a ready list to take, up to most, and how many are in it
local function share(kind, key, most)
  local n = math.min(room[kind], total, most)
  if sift and n > 0 then
    n = sift(key, n)
  end
  local length = redis.call('LLEN', key)
  n = math.min(n, length)
  if n > free[kind] then
    sessions = sessions or math.max(1, redis.call('ZCARD', K.leases))
    n = math.max(free[kind], math.min(n, math.ceil(length / sessions)))
  end
  return n, length
end

-- notes that n runs of a kind are taken
local function taken(kind, n)
  room[kind], free[kind] = room[kind] - n, math.max(free[kind] - n, 0)
  total = total - n
end

-- takes from a ready list while there are no policies
local function take(kind, key)
  local n, length = share(kind, key, total)
  if n < length then
    left[kind] = true
  end
  if n <= 0 then
    return
  end
  enlist()
  local moved
  if n == length and size == 1 then
    redis.call('RENAME', key, batch)
    moved = apart and {} or redis.call('LRANGE', batch, 0, -1)
  elseif n == 1 then
    moved = {redis.call('LMOVE', key, batch, 'LEFT', 'RIGHT')}
  else
    moved = redis.call('LRANGE', key, 0, n - 1)
    each(redis.call, 'RPUSH', batch, moved)
    must(function()
      redis.pcall('LTRIM', batch, 0, -1 - n)
    end, 'LTRIM', key, n, -1)
  end
  for i = 1, apart and 0 or n do
    reply[size + i] = moved[i]
  end
  size = size + n
  taken(kind, n)
end

local more = false -- backlogs to look at
local skipped = {} -- kinds of which a backlog waits for a caller with a free slot
local takeInTurn -- while there are backlogs
if rounds or special and redis.call('EXISTS', K.policy) == 1 then
  more = inTurn().recheck()
  local byte = string.byte

  -- Takes a page of a ready list: runs whose limits have room go into the batch, the others
  -- into backlogs. An error leaves the rest of the page in the list.
  local function takePage(kind, list, n)
    local page = redis.call('LRANGE', K.ready[list], 0, n - 1)
    local gather, entries = rounds.gather(n)
    local starting, counted = {}, {} -- stored runs for the batch; those of them that count at limits
    local plain = 0 -- runs without policies since the last with some: the bulk, which a limit must not slow down
    local sorted, gathered = 0, 0 -- how much of page, and of entries, is final
    local ok, failure = pcall(function()
      for i = 1, n do
        local stored = page[i]
        local run = (byte(stored, 2) or 0) % 16 >= 8 and rounds.read(stored) -- a call less than bit.band
        if not run then
          plain = plain + 1
          starting[#starting + 1] = stored
        else
          taken(kind, plain)
          plain = 0
          if rounds.startOrWait(list, stored, run, free[kind] > 0, gather) then
            counted[#counted + 1] = run
            starting[#starting + 1] = stored
            taken(kind, 1)
          end
        end
        sorted, gathered = i, #entries
      end
    end)
    taken(kind, plain)
    local filed = {}
    for i = 2, gathered, 2 do
      filed[#filed + 1] = entries[i]
    end
    local function undo()
      each(redis.pcall, 'ZREM', K.backlogs, filed)
      for _, run in ipairs(counted) do
        rounds.unbegin(run)
      end
    end
    local function undoAll()
      undo()
      redis.pcall('LTRIM', batch, 0, -1 - #starting)
    end
    if gathered > 0 then
      must(undo, 'ZADD', K.backlogs, unpack(entries, 1, gathered))
    end
    if #starting > 0 then
      local enlists, why = pcall(enlist)
      if not enlists then
        undo()
        error(why)
      end
      must(undo, 'RPUSH', batch, unpack(starting))
    end
    if sorted > 0 then
      must(undoAll, 'LTRIM', K.ready[list], sorted, -1)
    end
    for i, stored in ipairs(starting) do
      reply[size + i] = stored
    end
    size = size + #starting
    if not ok then
      error(failure)
    end
  end

  -- Takes from a ready list and its backlogs in turn: the first run of the backlog whose turn
  -- it is, or the next run of the list itself, or a page of the list if no backlog is open.
  function takeInTurn(kind, list)
    local function put(stored)
      enlist()
      redis.call('RPUSH', batch, stored)
      size = size + 1
      reply[size] = stored
      taken(kind, 1)
    end
    local function unput()
      redis.pcall('LTRIM', batch, 0, -2)
    end
    local function undefer(stored)
      redis.pcall('ZREM', K.deferred, stored)
    end
    while room[kind] > 0 and total > 0 and rounds.budget() > 0 do
      local open, plain = rounds.hasOpen(list), redis.call('EXISTS', K.ready[list]) == 1
      if not open and not plain then
        return
      end
      if open and free[kind] <= 0 then
        skipped[kind] = true
        return
      end
      local backlog, seen
      if open then
        backlog, seen = rounds.nextBacklog(list, plain)
      end
      if backlog then
        rounds.startFirst(backlog, seen, put, unput, defer, undefer)
      else
        local n = share(kind, K.ready[list], open and 1 or rounds.budget())
        if n <= 0 then
          break
        end
        takePage(kind, list, n)
      end
    end
    if rounds.hasOpen(list) or redis.call('EXISTS', K.ready[list]) == 1 then
      left[kind] = true
    end
  end
end

for priority = 1, 3 do -- high, medium, low
  for kind = 1, 2 do
    local list = (kind - 1) * 3 + priority
    if wanted[kind] and rounds then
      takeInTurn(kind, list)
    elseif wanted[kind] then
      take(kind, K.ready[list])
    end
  end
end

if rounds then -- which kinds to wake for backlogs
  for list in pairs(rounds.promoted) do
    arrived[kindOf(list)] = true
  end
  for list in pairs(size > 1 and rounds.later or {}) do
    left[kindOf(list)] = true -- another consumer has to learn when a rate has room
  end
  more = more or rounds.budget() <= 0
  for kind = 1, 2 do
    -- A consumer without free slots must not wake itself again and again.
    if skipped[kind] and (size > 1 or redis.call('HGET', K.policy, 'skipped' .. kind) ~= string.format('%.0f', now() / 500)) then
      redis.call('HSET', K.policy, 'skipped' .. kind, string.format('%.0f', now() / 500))
      left[kind] = true
    end
  end
  if redis.call('EXISTS', K.ready[1], K.ready[2], K.ready[3], K.ready[4], K.ready[5], K.ready[6], K.backlogs) == 0 then
    redis.call('DEL', K.rounds, K.policy, K.recheck)
  end
end
for kind = 1, 2 do
  if wanted[kind] and left[kind] or not wanted[kind] and arrived[kind] then
    wake(kind)
  end
end
if size == 1 then
  announceWait()
end
local recheckAt = rounds and rounds.recheckAt()
first = first and math.min(tonumber(first), 9999999999999)
if more or size == 1 and (looks <= 0 or bytes <= 0) then
  reply[1] = 0
elseif first or recheckAt then
  reply[1] = math.max(0, math.min(first or recheckAt, recheckAt or first) - now())
end
if size == 1 and special and redis.pcall('HEXISTS', K.stages, 'runs') == 1 then
  reply[1] = -4
end
if apart then
  return {reply[1]}
end
return reply
