#!lua
-- Reserves a group before its members are stored, drops a reservation, or sends the members
-- to their queues. enqueue.lua stores members of the group's own queue only while the reservation
-- is there, and makes the group stay in the same step.
--
-- KEYS  group, outbox; moved: the group has come from an entry of an outbox, which has the token
-- ARGV  action: reserve, drop or send; token: of the entry that is queued once the members have
--       ended; of reserve: size: number of members; entry: that entry, '' if there are no
--       members, which then count as stored; keep: ms to keep the group if they are not
--       stored; keepEnded: ms to keep it after the end; movedKept: ms to remember that the
--       group has come from an entry of an outbox, 0 if it has not; then of send the entries of
--       the members
-- Returns of reserve 0, 1 if there is another such group, or 2 if it came before and is over; of
--       drop 0, 1 if the group stays because its members are stored, or 2 if it is not there;
--       of send 0, now or before, or 2 if it is not there
-- include read.lua
local has = redis.call('HMGET', K.group, 'left', 'then', 'begun')
local begun = has[3] == A.token
local mine = begun or has[2] and string.sub(has[2], 2, 17) == A.token

local function drop()
  if not begun and mine then
    redis.call('DEL', K.group)
    return 0
  end
  return begun and 1 or 2
end

-- adds the entries of the members to the outbox, and makes the group stay
local function send()
  if begun or not mine then
    return begun and 0 or 2
  end
  local length = redis.call('LLEN', K.outbox)
  for i = argsRead + 1, #ARGV, 4000 do
    redis.call('RPUSH', K.outbox, unpack(ARGV, i, math.min(i + 3999, #ARGV)))
  end
  local begins = redis.pcall('HSET', K.group, 'begun', A.token)
  if type(begins) == 'table' then
    redis.pcall('LTRIM', K.outbox, 0, length - 1)
    return begins
  end
  redis.call('PERSIST', K.group)
  return 0
end

local function reserve()
  local moves = A.movedKept ~= '0'
  if has[1] then
    return mine and 0 or 1
  elseif moves and redis.call('EXISTS', K.moved) == 1 then
    return 2
  end
  local field, value = 'then', A.entry
  if value == '' then
    field, value = 'begun', A.token
  end
  redis.call('HSET', K.group, 'left', A.size, 'keep', A.keepEnded, field, value)
  local expires = redis.pcall('PEXPIRE', K.group, A.keep)
  local moved = moves and redis.pcall('SET', K.moved, '', 'PX', A.movedKept)
  for _, failed in ipairs({expires, moved}) do
    if type(failed) == 'table' and failed.err then
      redis.pcall('DEL', K.group) -- else it would stay for ever
      return failed
    end
  end
  return 0
end

if A.action == 'drop' then
  return drop()
end
return A.action == 'send' and send() or reserve()
