#!lua
-- Makes all pages that stage.lua stored of a large call part of the queue, in one
-- step whose cost does not depend on their number: from now on their runs are queued,
-- and unstage.lua moves them to where they are taken from.
--
-- KEYS  1 stages, 2 staged, 3 the call's stage, 4 its stub; then, of the members of a
--       group, the group
-- ARGV  1 token, 2 number of runs; then the token of what reserved the group
-- Returns 0 when they are queued (by this call or by an earlier one), or 4 when the
--       stage or the group is gone: nothing of the call is stored then, and never will be.
local token, runs = ARGV[1], tonumber(ARGV[2])
local state = redis.call('HGET', KEYS[1], token) or ''
local kind = string.sub(state, 1, 1)
if kind == 'c' or redis.call('EXISTS', KEYS[4]) == 1 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if kind ~= 'o' or tonumber(string.sub(state, 2)) <= now or redis.call('LLEN', KEYS[3]) ~= runs then
  return 4
end
if KEYS[5] then
  local waits = redis.call('HGET', KEYS[5], 'then')
  if not waits or string.sub(waits, 2, 17) ~= ARGV[3] then
    return 4
  end
end
redis.call('LLEN', KEYS[2]) -- fails before anything is written, should it be no list
redis.call('RPUSH', KEYS[2], token)
redis.call('HSET', KEYS[1], token, string.format('c%013.0f', now))
redis.call('HINCRBY', KEYS[1], 'runs', runs)
if KEYS[5] then
  redis.call('HSET', KEYS[5], 'begun', ARGV[3])
  redis.call('PERSIST', KEYS[5])
end
return 0
