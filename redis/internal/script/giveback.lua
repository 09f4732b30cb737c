#!lua flags=allow-oom
-- Gives back the unfinished runs of a batch, because the session's lease has ended, or because
-- the session leaves. They return to the heads of their ready lists or backlogs in their order,
-- and count no more at their limits.
--
-- The end of a lease raises a run's deliveries by one. If the run came back in this way before,
-- and the session notes the begins of such runs (markbegun.lua) and has noted none, the
-- deliveries stay; but the fifteenth time they are raised.
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; inflight, leases; lost: when some of what the session
--       held was last recovered; batch; done: its bitmap of finished runs; dead, trimmed,
--       backlogs, rounds, policy, recheck, running; cancels: the session's; outbox; raised: the
--       ids of the session's runs whose deliveries recoveries raised; then records of runs of
--       the batch
-- ARGV  session; name: the batch's, "session:number"; mode: 'recover' or 'leave'; maxDead: cap of the
--       dead list; failure: of entries that cannot be read; delays: the number of runs that
--       are delayed if their deliveries are raised and they came back
--       before; for each its index in the batch, and for how many ms; then for each record
--       the index of its run in the batch
-- Returns an array of
--       1. the number of runs put back, -1 if the lease has not ended
--       2. how many went into the outbox instead, as their end was asked for: '-', the
--          length of the failure, the failure, the stored run
--       3. how many became dead letters, as they cannot be read
-- After an error the run that it is of is still in the batch.
-- include clock.lua
-- include backlogs.lua
-- include release.lua
-- include putback.lua
-- include deadletters.lua
-- include readylists.lua
-- include wake.lua
-- include read.lua
local recover = A.mode == 'recover'
local batch, done = K.batch, K.done
if recover then
  local lease = redis.call('ZSCORE', K.leases, A.session)
  if lease and tonumber(lease) > now() then
    return {-1, 0, 0}
  end
end

local storedRuns = redis.call('LRANGE', batch, 0, -1)
local partly = redis.call('EXISTS', done) == 1
local function finished(index)
  return partly and redis.call('GETBIT', done, index) == 1
end
local n, woken, cancelled = 0, {}, 0 -- runs put back; kinds; runs that are to end
local number = string.match(A.name, ':(.*)$')
local someCancelled = redis.call('EXISTS', K.cancels) == 1
local notesBegins = string.sub(A.session, -1) == '+' -- of runs that came back before
local delays, due, raised = {}, {}, {} -- by index: ms, instants; ids whose deliveries are raised
for _ = 1, tonumber(A.delays) do
  local index, ms = nextArg(), nextArg()
  delays[tonumber(index)] = tonumber(ms)
end

-- the stored run as it goes back, and true if it came back before and has begun, or may have.
-- The upper four bits of its flags: 0 it never came back, 15 it has begun, else how often
-- it came back without a delivery that counts.
local function returned(stored, flags)
  local past, again = math.floor(flags / 16), false
  local deliveries = struct.unpack('>I4', stored, 5)
  if recover and (past == 0 or past == 15 or not notesBegins) then
    past, again, deliveries = 1, past > 0, deliveries + 1
    raised[#raised + 1] = string.sub(stored, 10, 9 + string.byte(stored, 9))
  elseif recover then
    past = past + 1
  elseif past == 15 then
    past = 1
  end
  return string.sub(stored, 1, 1) .. string.char(flags % 16 + past * 16) .. string.sub(stored, 3, 4)
    .. struct.pack('>I4', deliveries) .. string.sub(stored, 9), again
end

local deadLength, buried = 0, 0 -- of the dead list, if it grew, and by how much

-- Puts a run back, marks it as finished in the batch, and then releases its limits.
local function returnRun(i, stored)
  local list = listOf(stored)
  local field = someCancelled and number .. ':' .. (i - 1)
  local failure = field and redis.call('HGET', K.cancels, field)
  local undo, unread
  if failure then
    redis.call('RPUSH', K.outbox, '-' .. struct.pack('>I4', #failure) .. failure .. stored)
    undo = function()
      redis.pcall('LTRIM', K.outbox, 0, -2)
    end
  elseif list then
    local as, again = returned(stored, string.byte(stored, 2))
    if again and delays[i - 1] then
      due[i - 1] = string.format('%013.0f', now() + delays[i - 1])
      redis.call('ZADD', K.delayed, due[i - 1], as)
      undo = function()
        redis.pcall('ZREM', K.delayed, as)
      end
    else
      local entry = putBack(list, as)
      undo = function()
        takeAway(list, entry)
      end
    end
    woken[kindOf(list)] = true -- also to learn when one is due
  else
    unread = true
    deadLength = redis.call('LPUSH', K.dead, deadLetter(A.failure .. stored))
    buried = buried + 1
    undo = function()
      redis.pcall('LPOP', K.dead)
    end
  end
  must(undo, 'SETBIT', done, i - 1, 1) -- so an error in what follows does not put it back twice
  if failure then
    redis.call('HDEL', K.cancels, field)
    cancelled = cancelled + 1
  elseif not unread then
    n = n + 1
  end
  if hasPolicies(stored) and release(stored) then
    woken[1], woken[2] = true, true
  end
end

local isFinished = {}
for i = 1, #storedRuns do
  isFinished[i] = finished(i - 1)
end
local failed -- the first error; the run that it is of stays, and the batch
if recover and #storedRuns > 0 then
  redis.call('SET', K.lost, table.concat({serverTime()}, '.'), 'PX', 3600000)
end
for i = #storedRuns, 1, -1 do
  if not isFinished[i] then
    local ok, failure = pcall(returnRun, i, storedRuns[i])
    failed = failed or not ok and failure
  end
end
for _ = 1, #KEYS - #K do
  local record, index = nextKey(), tonumber(nextArg())
  if storedRuns[index + 1] and not isFinished[index + 1] then
    local state = redis.call('GETRANGE', record, 0, 0)
    if due[index] and (state == 'r' or state == 'q' or state == 'd') then
      redis.call('SETRANGE', record, 0, 'd' .. due[index])
    elseif state == 'r' then
      redis.call('SETRANGE', record, 0, 'q')
    end
  end
end
for i = 1, #raised, 4000 do
  -- An error here must not keep the batch, whose runs are in their lists by now.
  redis.pcall('SADD', K.raised, unpack(raised, i, math.min(i + 3999, #raised)))
  redis.pcall('PEXPIRE', K.raised, 86400000)
end
if not failed then
  redis.call('DEL', batch, done)
  redis.call('SREM', K.inflight, A.name)
end
for kind in pairs(woken) do
  wake(kind)
end
trimOldest(deadLength)
if failed then
  error(failed)
end
return {n, cancelled, buried}
