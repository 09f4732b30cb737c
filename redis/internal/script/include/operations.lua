-- Applies the outcomes of runs in operations. This is no script: it stands in scripts instead of
-- the comment that includes it, behind clock.lua, backlogs.lua, release.lua, putback.lua,
-- deadletters.lua, ended.lua and read.lua. The script has A.beforeID. doc.go explains K, A and nextKey.
--
-- The operations of an outcome are a string of letters. The keys and arguments of each follow
-- in the order of the letters:
--
--   letter                keys          arguments, and effect
--   i  FREE_ID            id            the id is free again
--   u  FREE_UNIQUE        unique key    run id; the unique key is free again if it is still
--                                       this run's
--   l  RELEASE_LIMITS                   the run counts no more at its limits
--   h  READY                            ready list 1-6, stored run; back to the head of the
--                                       list, or of its backlog
--   d  DELAY                            delay in ms, ready list 1-6, stored run; back, due
--                                       after the delay
--   w  WAKE                             ready list 1-6; wakes a consumer of the list's kind
--   x  BURY                             failure and stored run; adds a dead letter
--   r  RECORD             record        state, map; sets the record of a run that goes on,
--                                       with the due time that an earlier d has set
--   e  END_RECORD         record        record, ms to keep it; sets the record of an ended run
--   o  SEND                             entry; adds it to the outbox, for a cancelled run with
--                                       the failure behind it, as END_RECORD does
--   g  END_MEMBER         group         the member's place in the group; length of its run's id
--                                       in a byte, the id, and the record of its end; the
--                                       member has ended, see END_MEMBER below
--   k  KEEP_GROUP         group         ms, 0 for none; the run has gathered the group, which
--                                       expires then
--   c  IF_CANCELLED       cancels of    "number:index"; n. Must be first: the next n letters
--                         the session   apply if a cancel is stored, else the rest
--
-- FREE_ID and FREE_UNIQUE keep the owner for ten seconds, marked as ended: a repeated
-- enqueue, whose reply was lost, sees there that it was stored. `ended:` opens an ended id's
-- owner, and a space opens an ended unique key's.

local woken = {} -- kinds, 1 io and 2 cpu, of which a consumer is to be woken
local waiters = {} -- in turn a waiter and the id of the ended run that it waits for
local sent = 0 -- entries added to the outbox
local deadLength = 0 -- of the dead list, if it grew

local someWait -- whether somebody waits for the end of any run

-- notes who waits for the end of the run that has this record
local function noteWaiters(record)
  if someWait == nil then
    someWait = redis.pcall('EXISTS', K.waiters) == 1
  end
  if someWait then
    local id = string.sub(record, tonumber(A.beforeID) + 1)
    local names = redis.pcall('HGET', K.waiters, id)
    if type(names) == 'string' then -- else it cannot be read; a waiter also polls the record
      for waiter in string.gmatch(names, '%S+') do
        waiters[#waiters + 1] = waiter
        waiters[#waiters + 1] = id
      end
      redis.pcall('HDEL', K.waiters, id)
    end
  end
end

local function newOperations()
  local self, appliers, readOperations = {}, {}, nil
  local batch, index -- of the run in hand, if it is in flight
  local due -- when the run in hand is due again, 13 digits
  local gathered = {} -- groups that are forgotten once nothing can fail
  local undos = {} -- functions that take back the operations of the run in hand

  local function kindOf(list)
    return list <= 3 and 1 or 2
  end

  local function undoable(undo)
    undos[#undos + 1] = undo
  end

  appliers[OP.FREE_ID] = function(apply)
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

  appliers[OP.FREE_UNIQUE] = function(apply)
    local key, id = nextKey(), nextArg()
    if apply then
      local owner = redis.call('GET', key)
      if owner and string.sub(owner, 1, #id + 1) == id .. ' ' then
        local expires = redis.call('PTTL', key)
        redis.call('SET', key, ' ' .. owner, 'PX', 10000)
        undoable(function()
          if expires > 0 then
            redis.pcall('SET', key, owner, 'PX', expires)
          else
            redis.pcall('SET', key, owner)
          end
        end)
      end
    end
  end

  appliers[OP.RELEASE_LIMITS] = function(apply)
    local stored = apply and batch and redis.call('LRANGE', batch, index, index)[1]
    if stored then
      if release(stored) then
        woken[1], woken[2] = true, true -- runs of both kinds can have the limit
      end
      undoable(function()
        hold(stored)
      end)
    end
  end

  appliers[OP.READY] = function(apply)
    local list, stored = tonumber(nextArg()), nextArg()
    if apply then
      local entry = putBack(list, stored)
      undoable(function()
        takeAway(list, entry)
      end)
      woken[kindOf(list)] = true
    end
  end

  appliers[OP.DELAY] = function(apply)
    local delay, list, stored = tonumber(nextArg()), tonumber(nextArg()), nextArg()
    if apply then
      due = string.format('%013.0f', math.min(now() + delay, 9999999999999)) -- a record has 13 digits
      if redis.call('ZADD', K.delayed, due, stored) == 1 then
        undoable(function()
          redis.pcall('ZREM', K.delayed, stored)
        end)
      end
      if redis.call('ZRANGE', K.delayed, 0, 0)[1] == stored then
        woken[kindOf(list)] = true -- to learn when the first is due
      end
    end
  end

  appliers[OP.WAKE] = function(apply)
    local list = tonumber(nextArg())
    if apply then
      woken[kindOf(list)] = true
    end
  end

  appliers[OP.BURY] = function(apply)
    local failureAndRun = nextArg()
    if apply then
      deadLength = redis.call('LPUSH', K.dead, deadLetter(failureAndRun))
      undoable(function()
        redis.pcall('LPOP', K.dead)
        deadLength = deadLength - 1
      end)
    end
  end

  appliers[OP.RECORD] = function(apply)
    local key, state, map = nextKey(), nextArg(), nextArg()
    if apply then
      redis.call('SET', key, state .. (due or '0000000000000') .. map)
    end
  end

  local cancelFailure = '' -- while the operations of a cancelled run are applied

  appliers[OP.END_RECORD] = function(apply)
    local key, record, keep = nextKey(), nextArg(), nextArg()
    if apply then
      redis.call('SET', key, record .. cancelFailure, 'PX', keep)
      noteWaiters(key)
      local ids
      if string.byte(record) == 115 then -- s
        endedWell = endedWell or {}
        ids = endedWell
      else
        endedBadly = endedBadly or {}
        ids = endedBadly
      end
      ids[#ids + 1] = string.sub(key, tonumber(A.beforeID) + 1)
      undoable(function()
        ids[#ids] = nil
      end)
      endedKeep = math.max(endedKeep, tonumber(keep))
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

  appliers[OP.SEND] = function(apply)
    local entry = nextArg()
    if apply then
      send(entry .. cancelFailure)
    end
  end

  -- The end of the last member adds the run that awaits the group to the outbox. A member
  -- ends once; but if it ended with a failure, and was queued again, its success counts
  -- instead.
  appliers[OP.END_MEMBER] = function(apply)
    local group, member, ended = nextKey(), nextArg(), nextArg()
    local before = apply and redis.call('HGET', group, 'left')
    if not before then
      return
    end
    if not string.find(before, '^%-?%d+$') then
      redis.call('HSET', group, 'left', 1) -- the count is damaged: the first new end from here on, this one included, counts as the last
    end
    if redis.call('HSETNX', group, member, ended .. cancelFailure) == 0 then
      local function state(end_) -- the letter that opens the record
        local at = 2 + (string.byte(end_) or 0)
        return string.sub(end_, at, at)
      end
      if state(ended) == 's' and state(redis.call('HGET', group, member)) == 'f' then
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
      local awaiting = redis.call('HMGET', group, 'then', 'keep')
      if awaiting[1] then
        send(awaiting[1])
        redis.call('HDEL', group, 'then')
        undoable(function()
          redis.pcall('HSET', group, 'then', awaiting[1])
        end)
      end
      redis.call('PEXPIRE', group, tonumber(awaiting[2]) or 604800000)
      undoable(function()
        redis.pcall('PERSIST', group)
      end)
    end
  end

  appliers[OP.KEEP_GROUP] = function(apply)
    local group, ms = nextKey(), nextArg()
    if not apply or redis.pcall('HEXISTS', group, 'then') == 1 then
      return -- it is another of this name
    elseif ms == '0' then
      gathered[#gathered + 1] = group
    else
      local expires = redis.call('PTTL', group)
      redis.call('PEXPIRE', group, ms)
      undoable(function()
        if expires > 0 then
          redis.pcall('PEXPIRE', group, expires)
        else
          redis.pcall('PERSIST', group)
        end
      end)
    end
  end

  local function ifCancelled(letters, apply)
    local cancels, field, n = nextKey(), nextArg(), tonumber(nextArg())
    local failure = apply and redis.call('HGET', cancels, field)
    cancelFailure = failure or ''
    readOperations(string.sub(letters, 1, n), failure)
    cancelFailure = '' -- for the next outcome; after an error self.apply comes here again, without a failure
    if failure then
      redis.call('HDEL', cancels, field)
      undoable(function()
        redis.pcall('HSET', cancels, field, failure)
      end)
    end
    readOperations(string.sub(letters, n + 1), apply and not failure)
  end

  -- applies letters, or only reads their keys and arguments
  function readOperations(letters, apply)
    if string.sub(letters, 1, 1) == OP.IF_CANCELLED then
      ifCancelled(string.sub(letters, 2), apply)
      return
    end
    for letter in string.gmatch(letters, '.') do
      appliers[letter](apply)
    end
  end

  -- reads the keys and arguments of an outcome's operations, and applies none
  function self.discard(letters)
    readOperations(letters, false)
  end

  -- Applies the operations of an outcome, and then calls last. A run in flight has a batch, and an
  -- index there. Returns nil or an error. After an error all operations are taken back but what
  -- the repetition writes again: records, notices to waiters, and corrections of a group.
  function self.apply(letters, last, ofBatch, atIndex)
    local keysBefore, argsBefore = keysRead, argsRead
    batch, index, due, undos, gathered = ofBatch, atIndex, nil, {}, {}
    local ok, err = pcall(function()
      readOperations(letters, true)
      last()
    end)
    if ok then
      for _, group in ipairs(gathered) do
        redis.pcall('DEL', group) -- else it expires
      end
      return nil
    end
    for i = #undos, 1, -1 do
      undos[i]()
    end
    keysRead, argsRead = keysBefore, argsBefore
    readOperations(letters, false)
    return err
  end

  return self
end

local madeOperations -- made when it is needed first: most calls have no operations

-- returns the functions for outcomes with operations
local function operations()
  madeOperations = madeOperations or newOperations()
  return madeOperations
end
