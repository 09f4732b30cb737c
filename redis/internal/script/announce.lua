#!lua flags=allow-oom
-- Stores an instance with the present time, and removes some that have expired. When all have,
-- the hash expires.
--
-- KEYS  instances: a hash of an instance's id to when it was seen last, in ms since the epoch, 13
--       digits, and its map
-- ARGV  id; instance: its map; kept: ms after which an instance has expired
-- Returns 0.
-- include clock.lua
redis.call('HSET', K.instances, A.id, string.format('%013.0f', now()) .. A.instance)
redis.call('PEXPIRE', K.instances, A.kept)
local some = redis.call('HRANDFIELD', K.instances, 2, 'WITHVALUES') -- each call removes what another left
for i = 1, #some, 2 do
  local seen = tonumber(string.sub(some[i + 1], 1, 13))
  if not seen or math.abs(now() - seen) > tonumber(A.kept) then -- the clock can have been put back
    redis.call('HDEL', K.instances, some[i])
  end
end
return 0
