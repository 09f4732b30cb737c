#!lua
-- Keeps the place of a run that waits for a group, in its own queue: its id, its
-- record, and that it is not cancelled.
--
-- KEYS  1 parked, 2 the id's key, 3 the record; then its unique key if it has one
-- ARGV  1 park, stay or drop, 2 the token of its entry; for park: 3 the queue and the
--       name of its group, 4 '1' if its id is its own, 5 the record, '' for none,
--       6 ms to keep them if nobody says stay, 7 its id
-- Returns 0, 1 when the id is live already, or the id of the run that has the
--       unique key.
local mine = redis.call('GET', KEYS[1])
local other = mine and string.sub(mine, 1, 16) ~= ARGV[2]
local owner = redis.call('GET', KEYS[2])
local owned = owner == 'parked:' .. ARGV[2]
local unique = KEYS[4] and redis.call('GET', KEYS[4])
local by = unique and string.match(unique, '^.* (.*)$')
if ARGV[1] ~= 'park' then
  if mine and not other then
    if by == 'parked:' .. ARGV[2] then
      redis.call(ARGV[1] == 'stay' and 'PERSIST' or 'DEL', KEYS[4])
    end
    redis.call(ARGV[1] == 'stay' and 'PERSIST' or 'DEL', KEYS[1])
    redis.call(ARGV[1] == 'stay' and 'PERSIST' or 'DEL', KEYS[3])
    if owned then
      redis.call(ARGV[1] == 'stay' and 'PERSIST' or 'DEL', KEYS[2])
    end
  end
  return 0
end
if other or ARGV[4] == '1' and owner and not owned and string.sub(owner, 1, 6) ~= 'ended:' then
  return 1
end
if unique and string.sub(unique, 1, 1) ~= ' ' and by ~= 'parked:' .. ARGV[2] then
  return string.match(unique, '^(.*) ')
end
if KEYS[4] then
  redis.call('SET', KEYS[4], ARGV[7] .. ' parked:' .. ARGV[2], 'PX', ARGV[6])
end
redis.call('SET', KEYS[1], ARGV[2] .. ARGV[3], 'PX', ARGV[6])
if ARGV[4] == '1' then
  redis.call('SET', KEYS[2], 'parked:' .. ARGV[2], 'PX', ARGV[6])
end
if ARGV[5] ~= '' then
  redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[6])
end
return 0
