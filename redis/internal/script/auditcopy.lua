#!lua flags=allow-oom
-- Removes one of two copies of a run, if both are still where the auditor saw them.
--
-- KEYS  backlogs, rounds, policy, recheck; kept, keptDone: the place of the copy that stays,
--       and if that is a batch its bitmap of finished runs; copy, copyDone: the same of the
--       copy that goes
-- ARGV  repair: '1' to repair, '0' to count only; keptEntry, keptIndex: the entry in the first
--       place, and its index in the batch, -1 if it is in none; copyEntry, copyIndex: the
--       same of the second
-- Returns 1 if both were there, else 0.
-- include backlogs.lua
-- include leavebacklog.lua
-- include places.lua
local first, second = tonumber(A.keptIndex), tonumber(A.copyIndex)
local needed = K.kept == K.copy and A.keptEntry == A.copyEntry and first == second and 2 or 1
if count(K.kept, A.keptEntry, K.keptDone, first) < needed or count(K.copy, A.copyEntry, K.copyDone, second) < needed then
  return 0
end
if A.repair == '1' and second >= 0 then
  redis.call('SETBIT', K.copyDone, second, 1)
elseif A.repair == '1' then
  take(K.copy, A.copyEntry)
end
return 1
