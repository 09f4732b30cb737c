#!lua
-- Stores what waits for the end of a group, before the group's members, and has it
-- stay once these are stored, or go.
--
-- KEYS  1 the group
-- ARGV  1 park: 2 number of members, 3 entry of the outbox that is to be queued at
--       their end, 4 ms to keep the group if nobody says stay, 5 ms to keep it
--       after the end; or stay, or drop
-- Returns 0, or 1 when there is another such group.
if ARGV[1] == 'stay' then
  if redis.call('HEXISTS', KEYS[1], 'then') == 1 then
    redis.call('PERSIST', KEYS[1])
  end
  return 0
elseif ARGV[1] == 'drop' then
  redis.call('DEL', KEYS[1])
  return 0
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('HGET', KEYS[1], 'then') == ARGV[3] and 0 or 1
end
redis.call('HSET', KEYS[1], 'left', ARGV[2], 'keep', ARGV[5])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'then', ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 0
