#!lua flags=allow-oom
-- Makes dead letters of entries that cannot be read, as far as they still are where the
-- auditor saw them.
--
-- KEYS  dead, dropped, lines, turns, policy, opens, held; place: the list or sorted set
--       that the entries are in
-- ARGV  mend, '1' to mend and '0' to count only; maxDead: cap of the dead list; failure: of
--       entries that cannot be read; before: how many bytes of an entry come before its
--       element; then the entries
-- Returns how many became dead letters.
-- include lines.lua
-- include places.lua
-- include read.lua
local n = 0
for entry in nextArg do
  if A.mend == '0' then
    n = n + math.min(1, count(K.place, entry))
  elseif count(K.place, entry) > 0 then
    n = n + 1
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local element = string.sub(entry, tonumber(A.before) + 1)
    redis.call('LPUSH', K.dead, string.format('%013.0f', now) .. A.failure .. element)
    local ok, failure = pcall(take, K.place, entry)
    if not ok then
      redis.pcall('LPOP', K.dead)
      error(failure)
    end
  end
end
local over = redis.call('LLEN', K.dead) - tonumber(A.maxDead)
if A.mend == '1' and over > 0 then
  redis.call('INCRBY', K.dropped, over)
  redis.call('LTRIM', K.dead, 0, tonumber(A.maxDead) - 1)
end
return n
