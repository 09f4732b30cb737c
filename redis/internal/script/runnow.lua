#!lua
-- Makes delayed runs due at once.
--
-- KEYS  delayed; ready[6]: the ready lists, io high, medium, low, cpu high, medium, low;
--       idle[2], wake[2]: io, cpu; backlogs, rounds, policy; then the records of those runs that
--       have one, in their order
-- ARGV  runs: their number; then for each of them its ready list 1-6, '1' if it has a record, else
--       '0', its entry, and the stored run to put in its place
-- Returns for each run 1, or 0 if it is not there: then nothing is done; or a text, the error after
-- which the run stays.
-- include clock.lua
-- include backlogs.lua
-- include wake.lua
-- include read.lua
local woken = {}

local function runNow(list, record, entry, stored)
  if not redis.call('ZSCORE', K.delayed, entry) then
    return 0
  end
  local filed
  if hasPolicies(stored) then
    filed = backlogs().arrive(list, K.ready[list], stored)
  else
    redis.call('RPUSH', K.ready[list], stored)
  end
  local function undo()
    if filed then
      redis.pcall('ZREM', K.backlogs, filed)
    else
      redis.pcall('LTRIM', K.ready[list], 0, -2)
    end
  end
  if record and redis.pcall('GETRANGE', record, 0, 0) == 'd' then
    must(undo, 'SETRANGE', record, 0, 'd' .. string.format('%013.0f', now())) -- a time that has come stands for queued
  end
  must(undo, 'ZREM', K.delayed, entry)
  woken[list <= 3 and 1 or 2] = true
  return 1
end

local statuses = {}
for i = 1, tonumber(A.runs) do
  local list, record = tonumber(nextArg()), nextArg() == '1' and nextKey()
  local entry, stored = nextArg(), nextArg()
  local ok, status = pcall(runNow, list, record, entry, stored)
  statuses[i] = ok and status or type(status) == 'table' and status.err or tostring(status)
end
for kind in pairs(woken) do
  wake(kind)
end
return statuses
