#!lua
-- Reserves a group before its members are stored, which enqueue.lua does only where
-- this is, and in the same step has it stay; or has it go, unless they are stored.
--
-- KEYS  1 the group
-- ARGV  1 park, 2 the token of the entry that is to be queued at its members' end: 3
--       number of members, 4 the entry, '' where there are none: they count as
--       stored then, 5 ms to keep it if they are not, 6 ms to keep it after the
--       end; or drop, 2 the token
-- Returns of park 0, or 1 when there is another such group; of drop 0, 1 when it
--       stays, as its members were stored, or 2 when it is not there.
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
