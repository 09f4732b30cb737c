#!lua
-- Reserves a group before its members are stored, or drops a reservation. enqueue.lua stores
-- members only while the reservation is there, and makes the group stay in the same step.
--
-- KEYS  group
-- ARGV  action: reserve or drop; token: of the entry that is queued once the members have
--       ended; of reserve: size: number of members; entry: that entry, '' if there are no
--       members, which then count as stored; keep: ms to keep the group if they are not
--       stored; keepEnded: ms to keep it after the end
-- Returns of reserve 0, or 1 if there is another such group; of drop 0, 1 if the group stays
--       because its members are stored, or 2 if it is not there.
local has = redis.call('HMGET', K.group, 'left', 'then', 'begun')
local begun = has[3] == A.token
local mine = begun or has[2] and string.sub(has[2], 2, 17) == A.token
if A.action == 'drop' then
  if not begun and mine then
    redis.call('DEL', K.group)
    return 0
  end
  return begun and 1 or 2
end
if has[1] then
  return mine and 0 or 1
end
local field, value = 'then', A.entry
if value == '' then
  field, value = 'begun', A.token
end
redis.call('HSET', K.group, 'left', A.size, 'keep', A.keepEnded, field, value)
local expires = redis.pcall('PEXPIRE', K.group, A.keep)
if type(expires) == 'table' then
  redis.pcall('DEL', K.group) -- else it would stay for ever
  return expires
end
return 0
