#!lua flags=allow-oom
-- Makes dead letters of entries that cannot be read, if they are still where the auditor saw
-- them.
--
-- KEYS  dead, trimmed, backlogs, rounds, policy, recheck; place: the list or sorted set
--       that has the entries
-- ARGV  repair: '1' to repair, '0' to count only; maxDead: cap of the dead list; failure: of
--       entries that cannot be read; before: how many bytes of an entry come before its
--       stored run; then the entries
-- Returns how many became dead letters.
-- include clock.lua
-- include deadletters.lua
-- include backlogs.lua
-- include leavebacklog.lua
-- include places.lua
-- include read.lua
local n = 0
for entry in nextArg do
  if A.repair == '0' then
    n = n + math.min(1, count(K.place, entry))
  elseif count(K.place, entry) > 0 then
    n = n + 1
    local stored = string.sub(entry, tonumber(A.before) + 1)
    redis.call('LPUSH', K.dead, deadLetter(A.failure .. stored))
    local ok, failure = pcall(take, K.place, entry)
    if not ok then
      redis.pcall('LPOP', K.dead)
      error(failure)
    end
  end
end
if A.repair == '1' then
  trimOldest(redis.call('LLEN', K.dead))
end
return n
