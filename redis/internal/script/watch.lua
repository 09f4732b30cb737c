#!lua flags=allow-oom
-- Leaves a token in each of several queues, which wakes the consumer when a run comes there,
-- and finds the queues that have runs already. It is for a single server.
--
-- KEYS  for each queue: of each kind its watched list, then the keys that exist while a run
--       waits
-- ARGV  kinds: their number; keys: number of keys of a queue; keep: for how many ms; then
--       for each queue the token to leave in its lists
-- Returns an array of
--       1. the places, from 1, of the queues in which a run may wait
--       2. in turn the place of a queue, and the text of what is wrong there
-- include read.lua
local kinds, n = tonumber(A.kinds), tonumber(A.keys)
local waiting, failed = {}, {}
for i = 1, #KEYS / n do
  local token = nextArg()
  for _ = 1, kinds do
    local watched = nextKey()
    if redis.call('EXISTS', watched) == 0 then
      redis.call('RPUSH', watched, token)
    elseif redis.call('TYPE', watched).ok ~= 'list' then
      failed[#failed + 1] = i
      failed[#failed + 1] = 'the key ' .. watched .. ' is no list'
    end
    redis.call('PEXPIRE', watched, A.keep)
  end
  local places = {}
  for place = 1, n - kinds do
    places[place] = nextKey()
  end
  if redis.call('EXISTS', unpack(places)) > 0 then
    waiting[#waiting + 1] = i
  end
end
return {waiting, failed}
