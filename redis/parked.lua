#!lua
-- Keeps the place of a run that waits for a group, in its own queue: its id, its
-- record, and that it is not cancelled. It is in doubt whether the group's members
-- are stored until somebody says stay or drop.
--
-- KEYS  1 parked, 2 the id's key, 3 the record, 4 parking; then its unique key if it
--       has one
-- ARGV  1 park, stay or drop, 2 the token of its entry, 3 its id; for park: 4 the
--       queue and the name of its group, 5 '1' if its id is its own, 6 the record,
--       '' for none, 7 ms to keep them if nobody says stay, 8 what its unique key is
--       named, '' for none
-- Returns 0, 1 when the id is live already, 2 when a call that is not decided
--       (stage.lua) has reserved the id or the unique key, or the id of the run that has
--       the unique key.
local mine = redis.call('GET', KEYS[1])
local other = mine and string.sub(mine, 1, 16) ~= ARGV[2]
local owner = redis.call('GET', KEYS[2])
local owned = owner == 'parked:' .. ARGV[2]
local unique = KEYS[5] and redis.call('GET', KEYS[5])
local by = unique and string.match(unique, '^.* (.*)$')
if ARGV[1] ~= 'park' then
  local doubt = redis.call('HGET', KEYS[4], ARGV[3])
  local command = ARGV[1] == 'stay' and 'PERSIST' or 'DEL'
  if mine and not other then
    if by == 'parked:' .. ARGV[2] then
      redis.call(command, KEYS[5])
    end
    redis.call(command, KEYS[1])
    redis.call(command, KEYS[3])
    if owned then
      redis.call(command, KEYS[2])
    end
  end
  if doubt and string.sub(doubt, 1, 16) == ARGV[2] then
    redis.call('HDEL', KEYS[4], ARGV[3])
  end
  return 0
end
if ARGV[5] == '1' and owner and string.sub(owner, 1, 6) == 'stage:' or by and string.sub(by, 1, 6) == 'stage:' then
  return 2
end
if other or ARGV[5] == '1' and owner and not owned and string.sub(owner, 1, 6) ~= 'ended:' then
  return 1
end
if unique and string.sub(unique, 1, 1) ~= ' ' and by ~= 'parked:' .. ARGV[2] then
  return string.match(unique, '^(.*) ')
end
redis.call('HGET', KEYS[4], ARGV[3]) -- fails before anything is written
if KEYS[5] then
  redis.call('SET', KEYS[5], ARGV[3] .. ' parked:' .. ARGV[2], 'PX', ARGV[7])
end
redis.call('SET', KEYS[1], ARGV[2] .. ARGV[4], 'PX', ARGV[7])
if ARGV[5] == '1' then
  redis.call('SET', KEYS[2], 'parked:' .. ARGV[2], 'PX', ARGV[7])
end
if ARGV[6] ~= '' then
  redis.call('SET', KEYS[3], ARGV[6], 'PX', ARGV[7])
end
redis.call('HSET', KEYS[4], ARGV[3], ARGV[2] .. ARGV[8])
return 0
