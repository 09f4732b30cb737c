#!lua
-- Reserves what a pending run needs in its own queue, before its group is stored: its id, its
-- unique key, its record, and the key whose deletion cancels it. Until stay or drop it is in
-- doubt whether the members of the group are stored.
--
-- KEYS  pendingRun; id: the id's key; record; pending; moved: the run has come from an entry of
--       an outbox, which has the token; ended: of failures; unique: only of a run that has a unique key
-- ARGV  action: reserve, stay, drop or lose; token: of its entry; id: the run's; of reserve:
--       value: of pendingRun; ownID: '1' if its id is its own; record: '' for none; of lose that of
--       its end; keep: ms to keep them if neither stay nor drop follows, and of lose the record;
--       unique: its unique key, '' for none; movedKept: ms to remember that the run has come from an entry of an
--       outbox, 0 if it has not: then it is in no doubt, and is reserved once
-- Returns one of
--         0     it is done
--         1     the id is live already
--         2     a call that is not decided (stage.lua) has reserved the id or the unique key
--         a text: the id of the live run that has the unique key
-- lose is for a run whose pendingRun is gone. It frees what the run still holds, and ends its
-- record if that says that the run is pending.
-- include clock.lua
-- include addended.lua
local mine = redis.call('GET', K.pendingRun)
local other = mine and string.sub(mine, 1, 16) ~= A.token
local owner = redis.call('GET', K.id)
local owned = owner == 'pending:' .. A.token
local unique = K.unique and redis.call('GET', K.unique)
local by = unique and string.match(unique, '^.* (.*)$')
if A.action == 'lose' then
  if mine then
    return 0 -- it is there, or another is
  end
  if by == 'pending:' .. A.token then
    redis.call('DEL', K.unique)
  end
  if owned then
    redis.call('DEL', K.id)
  end
  if redis.call('GETRANGE', K.record, 0, 13) == 'd9999999999999' then
    redis.call('SET', K.record, A.record, 'PX', A.keep)
    addEnded(K.ended, A.id, tonumber(A.keep))
  end
  return 0
end
if A.action ~= 'reserve' then
  local doubt = redis.call('HGET', K.pending, A.id)
  local command = A.action == 'stay' and 'PERSIST' or 'DEL'
  if mine and not other then
    if by == 'pending:' .. A.token then
      redis.call(command, K.unique)
    end
    redis.call(command, K.pendingRun)
    redis.call(command, K.record)
    if owned then
      redis.call(command, K.id)
    end
  end
  if doubt and string.sub(doubt, 1, 16) == A.token then
    redis.call('HDEL', K.pending, A.id)
  end
  return 0
end
local moves = A.movedKept ~= '0'
if moves and redis.call('EXISTS', K.moved) == 1 then
  return 0
end
if A.ownID == '1' and owner and string.sub(owner, 1, 6) == 'stage:' or by and string.sub(by, 1, 6) == 'stage:' then
  return 2
end
if other or A.ownID == '1' and owner and not owned and string.sub(owner, 1, 6) ~= 'ended:' then
  return 1
end
if unique and string.sub(unique, 1, 1) ~= ' ' and by ~= 'pending:' .. A.token then
  return string.match(unique, '^(.*) ')
end
redis.call('HGET', K.pending, A.id) -- fails before anything is written

local function set(key, value)
  if moves then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', A.keep)
  end
end

if K.unique then
  set(K.unique, A.id .. ' pending:' .. A.token)
end
set(K.pendingRun, A.value)
if A.ownID == '1' then
  set(K.id, 'pending:' .. A.token)
end
if A.record ~= '' then
  set(K.record, A.record)
end
if moves then
  redis.call('SET', K.moved, '', 'PX', A.movedKept)
else
  redis.call('HSET', K.pending, A.id, A.token .. A.unique)
end
return 0
