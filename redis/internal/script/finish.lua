#!lua flags=allow-oom
-- Applies outcomes of runs, each once and only while its batch is there: the
-- batch's list is the fencing token.
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; inflight, dead, dropped, waiters, waiting, rounds,
--       policy, recheck, running, outbox; then for each slot its batch, its bitmap of finished
--       runs, the records of those that need no steps, and the keys
--       that its steps name
-- ARGV  maxDead: cap of the dead list; slots: their number; beforeID: how many bytes of a
--       record's key come before the run's id; then for each slot
--       "session:slot", 0 if some of the batch is left after this, else one more
--       than how many of it earlier calls have finished, a bitmap of the runs
--       that need no steps (as SETBIT has it), how many of these have a record,
--       for each: the record, ms to keep it; the number of other runs, for each:
--       its index and its steps, a string of letters, and for each letter:
--         i  FREE_ID: an id's key; the id is free again. What is left of it for ten
--            seconds shows a repeated enqueue, whose reply was lost, that it
--            was stored.
--         u  FREE_UNIQUE: a unique key, the run's id; the key is free again if it is
--            this run's. What is left of it is as of an id's.
--         l  RELEASE_LIMITS: the run counts no more at its limits
--         h  READY: lane 1-6, element; back to the head of that ready list, or of its
--            line
--         d  DELAY: delay in ms, lane, element; back, due after the delay
--         w  WAKE: lane; one that waits for runs of its kind is woken, to learn when
--            the first is due
--         x  BURY: entry; a dead letter
--         r  RECORD: a record's key; its state, its map
--         e  END_RECORD: a record's key; the record of a run that has ended, ms to keep it
--         o  SEND: entry; into the outbox
--         g  END_MEMBER: a group's key; member, and length of its id in a byte, id and
--            record; it has ended. The last one's end puts what waits for it into the
--            outbox. Of one that has failed before only a success counts, instead of that.
--         c  UNLESS_CANCELLED: cancels of the session; "slot:index", number of steps; if
--            the run is among them these steps follow, in which the failure noted there is
--            put behind records, else those behind them
--       Where "session:slot" is '' the slot's two keys are a place where a run
--       waits and one that is not there, the bitmap is an element, and the only
--       run, of index 0, is held if the element is there, from where it goes.
-- Returns an array of the slot's ordinal and the index of each run that was
--       fenced, where the index -1 means all that need no steps, one of the
--       waiter and the run's id of each that is to be told of an end, and how much
--       was put into the outbox. A run
--       that needs no steps and is marked as finished already is not fenced:
--       this session marked it, or the auditor that found the run elsewhere. Then how
--       many dead letters were dropped beyond the cap, and an array of failures: of
--       each the slot's ordinal, the run's index, and the error.
--       A batch stays, with its runs marked, if nothing was to be left of it but
--       fewer have been finished before than the caller knows: the server has
--       forgotten the others' ends.
--       Of a run with a failure nothing is done; the others are finished. The index -1
--       means that the batch stays though all is done, the ordinal 0 that it is of no
--       slot. After an error of the script some may be finished: the call can be repeated.
-- include clock.lua
-- include waiting.lua
-- include release.lua
-- include unwait.lua
-- include putback.lua
-- include deadletters.lua
-- include wake.lua
-- include read.lua
local fenced, waiters, woken, sent = {}, {}, {}, 0
local due -- of the retry in hand
local died = 0 -- how many dead letters there are, if there are new ones
local batch, index -- of the run in hand; one that waits is in no batch

local awaited -- whether anybody waits for any run

-- notes who is to be told that the run of a record has ended
local function tell(record)
  if awaited == nil then
    awaited = redis.pcall('EXISTS', K.waiters) == 1
  end
  if awaited then
    local id = string.sub(record, tonumber(A.beforeID) + 1)
    local names = redis.pcall('HGET', K.waiters, id)
    if type(names) == 'string' then -- else it cannot be read; who waits also looks for the record now and then
      for waiter in string.gmatch(names, '%S+') do
        waiters[#waiters + 1] = waiter
        waiters[#waiters + 1] = id
      end
      redis.pcall('HDEL', K.waiters, id)
    end
  end
end

local undone -- what takes back the steps of the run in hand, the last one last

-- What runs need that end in more than one step, made for the first of them: most
-- calls have none.
local follow, waits, undoAll
local function prepare()
  local function undoable(undo)
    undone[#undone + 1] = undo
  end

  function undoAll()
    for i = #undone, 1, -1 do
      undone[i]()
    end
    undone = {}
  end

  local function kindOf(lane)
    return lane <= 3 and 1 or 2
  end

  local steps = {}

  local failure = '' -- of the cancel in hand

  steps[STEP.FREE_ID] = function(apply)
    local key = nextKey()
    if apply then
      local owner = redis.call('GET', key)
      if owner and string.sub(owner, 1, 6) ~= 'ended:' then
        redis.call('SET', key, 'ended:' .. owner, 'PX', 10000)
        undoable(function()
          redis.pcall('SET', key, owner)
        end)
      end
    end
  end

  steps[STEP.FREE_UNIQUE] = function(apply)
    local key, id = nextKey(), nextArg()
    if apply then
      local owner = redis.call('GET', key)
      if owner and string.sub(owner, 1, #id + 1) == id .. ' ' then
        redis.call('SET', key, ' ' .. owner, 'PX', 10000)
        undoable(function()
          redis.pcall('SET', key, owner)
        end)
      end
    end
  end

  steps[STEP.RELEASE_LIMITS] = function(apply)
    local element = apply and batch and redis.call('LRANGE', batch, index, index)[1]
    if element then
      woken[1] = release(element) or woken[1]
      woken[2] = woken[1] or woken[2]
      undoable(function()
        hold(element)
      end)
    end
  end

  steps[STEP.READY] = function(apply)
    local lane, element = tonumber(nextArg()), nextArg()
    if apply then
      local entry = putBack(lane, element)
      undoable(function()
        takeAway(lane, entry)
      end)
      woken[kindOf(lane)] = true
    end
  end

  steps[STEP.DELAY] = function(apply)
    local delay, lane, element = tonumber(nextArg()), tonumber(nextArg()), nextArg()
    if apply then
      due = string.format('%013.0f', math.min(now() + delay, 9999999999999)) -- a record has 13 digits
      if redis.call('ZADD', K.delayed, due, element) == 1 then
        undoable(function()
          redis.pcall('ZREM', K.delayed, element)
        end)
      end
      if redis.call('ZRANGE', K.delayed, 0, 0)[1] == element then
        woken[kindOf(lane)] = true
      end
    end
  end

  steps[STEP.WAKE] = function(apply)
    local lane = tonumber(nextArg())
    if apply then
      woken[kindOf(lane)] = true
    end
  end

  steps[STEP.BURY] = function(apply)
    local entry = nextArg()
    if apply then
      died = redis.call('LPUSH', K.dead, deadLetter(entry))
      undoable(function()
        redis.pcall('LPOP', K.dead)
        died = died - 1
      end)
    end
  end

  steps[STEP.RECORD] = function(apply)
    local record, state, map = nextKey(), nextArg(), nextArg()
    if apply then
      redis.call('SET', record, state .. (due or '0000000000000') .. map)
    end
  end

  steps[STEP.END_RECORD] = function(apply)
    local key, record, keep = nextKey(), nextArg(), nextArg()
    if apply then
      redis.call('SET', key, record .. failure, 'PX', keep)
      tell(key)
    end
  end

  local function send(entry)
    redis.call('RPUSH', K.outbox, entry)
    sent = sent + 1
    undoable(function()
      redis.pcall('LTRIM', K.outbox, 0, -2)
      sent = sent - 1
    end)
  end

  steps[STEP.SEND] = function(apply)
    local entry = nextArg()
    if apply then
      send(entry)
    end
  end

  steps[STEP.END_MEMBER] = function(apply)
    local group, member, ended = nextKey(), nextArg(), nextArg()
    local before = apply and redis.call('HGET', group, 'left')
    if not before then
      return
    end
    if not string.find(before, '^%-?%d+$') then
      redis.call('HSET', group, 'left', 1) -- nobody knows: what waits for it finds what there is
    end
    if redis.call('HSETNX', group, member, ended .. failure) == 0 then
      -- A dead letter that was queued again: its success counts instead.
      local size, noted = 1 + string.byte(ended), redis.call('HGET', group, member)
      if string.sub(ended, size + 1, size + 1) == 's' and string.sub(noted, 1, size + 1) == string.sub(ended, 1, size) .. 'f' then
        redis.call('HSET', group, member, ended)
      end
      return
    end
    undoable(function()
      redis.pcall('HDEL', group, member)
    end)
    local left = redis.call('HINCRBY', group, 'left', -1)
    undoable(function()
      redis.pcall('HINCRBY', group, 'left', 1)
    end)
    if left == 0 then
      local last = redis.call('HMGET', group, 'then', 'keep')
      if last[1] then
        send(last[1])
        redis.call('HDEL', group, 'then')
        undoable(function()
          redis.pcall('HSET', group, 'then', last[1])
        end)
      end
      redis.call('PEXPIRE', group, tonumber(last[2]) or 604800000)
      undoable(function()
        redis.pcall('PERSIST', group)
      end)
    end
  end

  -- does steps; of those of a retry that begin with a look for a cancel only what is to
  -- be done
  function follow(letters, apply)
    if string.sub(letters, 1, 1) ~= STEP.UNLESS_CANCELLED then
      for letter in string.gmatch(letters, '.') do
        steps[letter](apply)
      end
      return
    end
    local cancels, field, n = nextKey(), nextArg(), tonumber(nextArg())
    local marked = apply and redis.call('HGET', cancels, field)
    failure = marked or ''
    follow(string.sub(letters, 2, 1 + n), marked)
    failure = ''
    if marked then
      redis.call('HDEL', cancels, field)
      undoable(function()
        redis.pcall('HSET', cancels, field, marked)
      end)
    end
    follow(string.sub(letters, 2 + n), apply and not marked)
  end

  -- whether an element waits in a place, and a function that takes it away from there
  function waits(place, element)
    local kind = redis.call('TYPE', place).ok
    if place == K.waiting then
      return kind == 'zset' and redis.call('ZSCORE', place, element), function()
        removeWaiting(element, undoAll)
      end
    elseif kind == 'list' then
      -- Of a list nothing else tells: it goes first, and back to the tail.
      return redis.call('LREM', place, -1, element) > 0, function() end, function()
        redis.pcall('RPUSH', place, element)
      end
    elseif kind == 'string' then
      return redis.call('GET', place) == element, function()
        must(undoAll, 'DEL', place)
      end
    end
    return kind == 'zset' and redis.call('ZSCORE', place, element), function()
      must(undoAll, 'ZREM', place, element)
    end
  end
end

-- the runs of either bitmap
local function either(a, b)
  local bytes = {}
  for i = 1, math.max(#a, #b) do
    bytes[i] = string.char(bit.bor(string.byte(a, i) or 0, string.byte(b, i) or 0))
  end
  return table.concat(bytes)
end

local failures = {}
local function failed(slot, which, why)
  local n = #failures
  failures[n + 1], failures[n + 2] = slot, which
  failures[n + 3] = type(why) == 'table' and why.err or 'ERR ' .. tostring(why)
end

for slot = 1, tonumber(A.slots) do
  local member, before, plain, noted = nextArg(), tonumber(nextArg()) - 1, nextArg(), tonumber(nextArg())
  local whole = before >= 0
  local done
  batch, done = nextKey(), nextKey()
  local held, remove, restore
  if member == '' then
    if not follow then
      prepare()
    end
    held, remove, restore = waits(batch, plain)
    plain, whole, batch = '', true, nil
  else
    held = redis.call('EXISTS', batch) == 1
    if held and before > 0 and redis.call('BITCOUNT', done) < before then
      whole = false -- the server has forgotten ends, which the session will find out
    end
  end
  if not held and #plain > 0 then
    fenced[#fenced + 1] = slot
    fenced[#fenced + 1] = -1
  end
  for _ = 1, noted do
    local key, record, keep = nextKey(), nextArg(), nextArg()
    if held then
      -- To write it twice is to write it once.
      redis.call('SET', key, record, 'PX', keep)
      tell(key)
    end
  end
  local others = tonumber(nextArg())
  if others > 0 and not follow then
    prepare()
  end
  local marked = held and (others > 0 or not whole) and redis.call('GET', done)
  if held and not whole and #plain > 0 then
    redis.call('SET', done, marked and either(marked, plain) or plain)
  end

  local applied, broken = {}, false -- indexes of the runs whose outcome was applied
  for _ = 1, others do
    index = tonumber(nextArg())
    local letters = nextArg()
    local keysBefore, argsBefore = keysRead, argsRead
    local apply = held and not (marked and redis.call('GETBIT', done, index) == 1)
    if not apply then
      fenced[#fenced + 1] = slot
      fenced[#fenced + 1] = index
      follow(letters, false)
    else
      due, undone = nil, {restore}
      local ok, failure = pcall(function()
        follow(letters, true)
        if remove then
          remove()
        elseif not whole then
          must(undoAll, 'SETBIT', done, index, 1)
        end
      end)
      if ok then
        applied[#applied + 1] = index
        marked = marked or not whole
      else
        undoAll()
        failed(slot, index, failure)
        broken = true
        keysRead, argsRead = keysBefore, argsBefore
        follow(letters, false)
      end
    end
  end
  if member ~= '' and not broken and (not held or whole) then
    local gone = redis.pcall('DEL', batch, done)
    if type(gone) == 'table' then
      failed(slot, -1, gone)
      broken = held
    else
      local unlisted = redis.pcall('SREM', K.inflight, member)
      if type(unlisted) == 'table' then
        failed(0, -1, unlisted)
      end
    end
  end
  if member ~= '' and broken and whole then -- what was applied is not to be applied again
    if #plain > 0 then
      redis.call('SET', done, marked and either(marked, plain) or plain)
    end
    for _, n in ipairs(applied) do
      redis.call('SETBIT', done, n, 1)
    end
  end
end
for lane in pairs(woken) do
  wake(lane)
end
local ok, dropped = pcall(dropOldest, died)
if not ok then
  failed(0, -1, dropped)
end
return {fenced, waiters, sent, ok and dropped or 0, failures}
