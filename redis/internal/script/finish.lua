#!lua flags=allow-oom
-- Applies the outcomes of runs in flight, each once. A batch's key is its fencing token:
-- without the key, the outcomes of the batch are refused.
--
-- An outcome has no operations if it only ends the run and perhaps sets its record: the batch's
-- bitmap of finished runs marks the run. Any other outcome has operations
-- (include/operations.lua).
-- doc.go explains K, A and nextKey.
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; inflight, dead, trimmed, waiters, backlogs, rounds,
--       policy, recheck, running, outbox, ended[2]: of successes, of failures; then for each batch
--         the batch, and its bitmap of finished runs
--         the record of each run without operations that has one
--         the keys of the operations, in their order
-- ARGV  maxDead: cap of the dead list; batches: their number; beforeID: how many bytes of a
--       record's key come before the run's id; then for each batch
--         "session:number"
--         '1' if all its runs have ended after this call, '0' if some are left
--         how many of its runs earlier calls have ended, as far as the caller knows
--         a bitmap, as SETBIT has it, of the runs without operations, '' for none
--         how many of these have a record; for each: the record, ms to keep it; then, if any
--         has, the ids of those that succeeded, separated by spaces, '' for none, those of the
--         others, and the longest of the times
--         how many outcomes have operations; for each: the run's index in the batch, the letters
--         of the operations, their arguments
-- Does for each batch that is there
--       1. sets the records of the runs without operations, and marks these runs in the bitmap
--          if the batch stays
--       2. applies the operations of each other outcome, and then marks its run in the same way;
--          an error takes back the operations of its run, but for some that
--          include/operations.lua names
--       3. deletes the batch if all its runs have ended
--       Afterwards it lists the ended runs that have a record, wakes consumers, and then trims the
--       oldest dead letters.
-- Returns an array of
--       1. the fenced runs: in turn the batch's place in the call, from 1, and the run's
--          index; or INDEX.PLAIN_RUNS, -1: all its runs without operations
--       2. in turn a waiter to notify, and the id of the run that has ended
--       3. how many entries were added to the outbox
--       4. how many dead letters were trimmed
--       5. the failures: in turn the batch's place, the run's index, and the error. The
--          outcome of the run is taken back as in 2. Instead of a run's the index can be
--            INDEX.BATCH_STAYS, -2: all runs have ended, and the batch cannot be deleted
--            INDEX.STILL_LISTED, -3: the batch is deleted, and inflight lists it still
--            INDEX.NOT_TRIMMED, -4: no dead letters were trimmed; the place is 0
--       A run without operations that the bitmap has already is not fenced: this session ended
--       it, or an audit that found the run elsewhere. If the bitmap has fewer runs than the
--       caller says, the server has forgotten ends: the batch stays.
-- Repeat the call after an error. Outcomes with operations that it applied are then fenced; those
-- without are applied again, which changes nothing. All are fenced if the batch is gone.
-- include clock.lua
-- include backlogs.lua
-- include release.lua
-- include putback.lua
-- include deadletters.lua
-- include ended.lua
-- include wake.lua
-- include read.lua
-- include operations.lua
local fenced, failures = {}, {}

local function fail(place, index, err)
  local n = #failures
  failures[n + 1], failures[n + 2] = place, index
  failures[n + 3] = type(err) == 'table' and err.err or 'ERR ' .. tostring(err)
end

-- returns the union of two bitmaps; marked is false if there is none or it was not read
local function union(marked, plain)
  if not marked then
    return plain
  end
  local bytes = {}
  for i = 1, math.max(#marked, #plain) do
    bytes[i] = string.char(bit.bor(string.byte(marked, i) or 0, string.byte(plain, i) or 0))
  end
  return table.concat(bytes)
end

-- Applies n outcomes with operations, but fences the runs that have ended before. It marks the
-- others in the bitmap, unless the batch is complete. someMarked is whether the bitmap can
-- mark any run. Returns the indexes of the runs whose outcome was applied, and whether some
-- outcomes failed.
local function applyOutcomes(n, place, batch, bitmap, batchExists, complete, someMarked)
  local applied, failed = {}, false
  for _ = 1, n do
    local index, letters = tonumber(nextArg()), nextArg()
    if not batchExists or someMarked and redis.call('GETBIT', bitmap, index) == 1 then
      fenced[#fenced + 1] = place
      fenced[#fenced + 1] = index
      operations().discard(letters)
    else
      local err = operations().apply(letters, function()
        if not complete then
          redis.call('SETBIT', bitmap, index, 1)
        end
      end, batch, index)
      if err then
        fail(place, index, err)
        failed = true
      else
        applied[#applied + 1] = index
        someMarked = someMarked or not complete
      end
    end
  end
  return applied, failed
end

-- Without outcomes with operations and without records the loop makes no function and no table:
-- each would cost every call.
for place = 1, tonumber(A.batches) do
  local name, complete, endedBefore = nextArg(), nextArg() == '1', tonumber(nextArg())
  local plain = nextArg() -- the bitmap of the runs without operations
  local batch, bitmap = nextKey(), nextKey()
  local batchExists = redis.call('EXISTS', batch) == 1
  if batchExists and complete and endedBefore > 0 and redis.call('BITCOUNT', bitmap) < endedBefore then
    complete = false -- the server has forgotten ends, which the session will find out
  end

  -- 1. the runs without operations
  if not batchExists and #plain > 0 then
    fenced[#fenced + 1] = place
    fenced[#fenced + 1] = INDEX.PLAIN_RUNS
  end
  local records = tonumber(nextArg())
  for _ = 1, records do
    local key, record, keep = nextKey(), nextArg(), nextArg()
    if batchExists then
      redis.call('SET', key, record, 'PX', keep) -- to set it twice is to set it once
      noteWaiters(key)
    end
  end
  if records > 0 then
    local well, badly, keep = nextArg(), nextArg(), nextArg()
    if batchExists then
      if well ~= '' then
        endedWell = endedWell or {}
        endedWell[#endedWell + 1] = well
      end
      if badly ~= '' then
        endedBadly = endedBadly or {}
        endedBadly[#endedBadly + 1] = badly
      end
      endedKeep = math.max(endedKeep, tonumber(keep))
    end
  end
  local outcomes = tonumber(nextArg())
  local marked = batchExists and (outcomes > 0 or not complete) and redis.call('GET', bitmap)
  if batchExists and not complete and #plain > 0 then
    redis.call('SET', bitmap, union(marked, plain))
  end

  -- 2. the outcomes with operations
  local applied, failed
  if outcomes > 0 then
    applied, failed = applyOutcomes(outcomes, place, batch, bitmap, batchExists, complete, marked ~= false)
  end

  -- 3. the batch; a bitmap without a batch is left over, and goes too
  if not failed and (not batchExists or complete) then
    local deleted = redis.pcall('DEL', batch, bitmap)
    if type(deleted) == 'table' then
      fail(place, INDEX.BATCH_STAYS, deleted)
      failed = batchExists
    else
      local unlisted = redis.pcall('SREM', K.inflight, name)
      if type(unlisted) == 'table' then
        fail(place, INDEX.STILL_LISTED, unlisted)
      end
    end
  end
  if failed and complete then -- the batch stays: no outcome may be applied a second time
    if #plain > 0 then
      local before = redis.pcall('GET', bitmap) -- which was not read if no outcome has operations
      redis.call('SET', bitmap, union(type(before) == 'string' and before, plain))
    end
    for _, index in ipairs(applied or {}) do
      redis.call('SETBIT', bitmap, index, 1)
    end
  end
end

-- include listended.lua
for kind in pairs(woken) do
  wake(kind)
end
local ok, trimmed = pcall(trimOldest, deadLength)
if not ok then
  fail(0, INDEX.NOT_TRIMMED, trimmed)
end
return {fenced, waiters, sent, ok and trimmed or 0, failures}
