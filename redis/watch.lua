#!lua flags=allow-oom
-- Has the runs that come to queues wake a consumer that takes from all of them, and
-- looks which queues have some already. It is for a single server.
--
-- KEYS  for each queue: of each kind the list of who watches it, then the keys that
--       are there while a run waits
-- ARGV  1 number of kinds, 2 number of keys of a queue, 3 for how many ms; then for
--       each queue the element to leave in its lists
-- Returns an array of the places, from 1, of the queues in which a run may wait,
--       then of the texts of what failed, each behind the place of its queue.
local kinds, n = tonumber(ARGV[1]), tonumber(ARGV[2])
local waiting, failed = {}, {}
for i = 1, #KEYS / n do
  local at = (i - 1) * n
  for kind = 1, kinds do
    local watched = KEYS[at + kind]
    if redis.call('EXISTS', watched) == 0 then
      redis.call('RPUSH', watched, ARGV[3 + i])
    elseif redis.call('TYPE', watched).ok ~= 'list' then
      failed[#failed + 1] = i
      failed[#failed + 1] = 'the key ' .. watched .. ' is no list'
    end
    redis.call('PEXPIRE', watched, ARGV[3])
  end
  if redis.call('EXISTS', unpack(KEYS, at + kinds + 1, at + n)) > 0 then
    waiting[#waiting + 1] = i
  end
end
return {waiting, failed}
