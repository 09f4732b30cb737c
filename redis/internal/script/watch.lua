#!lua flags=allow-oom
-- Has the runs that come to queues wake a consumer that takes from all of them, and
-- looks which queues have some already. It is for a single server.
--
-- KEYS  for each queue: of each kind the list of who watches it, then the keys that
--       are there while a run waits
-- ARGV  kinds: their number; keys: number of keys of a queue; keep: for how many ms; then
--       for each queue the element to leave in its lists
-- Returns an array of the places, from 1, of the queues in which a run may wait,
--       then of the texts of what failed, each behind the place of its queue.
-- include read.lua
local kinds, n = tonumber(A.kinds), tonumber(A.keys)
local waiting, failed = {}, {}
for i = 1, #KEYS / n do
  local element = nextArg()
  for _ = 1, kinds do
    local watched = nextKey()
    if redis.call('EXISTS', watched) == 0 then
      redis.call('RPUSH', watched, element)
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
