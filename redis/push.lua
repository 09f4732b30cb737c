#!lua
-- Queues runs that are all for one ready list and that nothing can refuse: what
-- most enqueues are, in as little as possible.
--
-- KEYS  1 ready list, 2 idle flag, 3 wake set of its kind
-- ARGV  elements
-- Returns 0. Refused by the server at maxmemory, before anything.
for i = 1, #ARGV, 4000 do
  redis.call('RPUSH', KEYS[1], unpack(ARGV, i, math.min(i + 3999, #ARGV)))
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('ZADD', KEYS[3], 0, '1')
end
return 0
