#!lua
-- Makes all pages that stage.lua stored of a large call part of the queue, in one step whose
-- cost does not depend on their number. From then on their runs are queued; unstage.lua
-- moves them to where takes find them.
--
-- KEYS  stages, staged; stage: the call's; stub: the call's; group: only if the runs are
--       its members
-- ARGV  token: the call's; runs: their number; reserved: the token of the entry that
--       reserved the group, '' without one
-- Returns one of
--         0  they are queued, by this execution or by an earlier one
--         1  another call has stored the members of the group
--         4  the stage or the group is gone
--       After 1 and 4 nothing of this call is stored, and never will be.
-- include clock.lua
local token, runs = A.token, tonumber(A.runs)
local state = redis.call('HGET', K.stages, token) or ''
local phase = string.sub(state, 1, 1)
if phase == 'c' or redis.call('EXISTS', K.stub) == 1 then
  return 0
end
if phase ~= 'o' or tonumber(string.sub(state, 2)) <= now() or redis.call('LLEN', K.stage) ~= runs then
  return 4
end
if K.group then
  local has = redis.call('HMGET', K.group, 'begun', 'then')
  if has[1] == A.reserved then
    return 1
  elseif not has[2] or string.sub(has[2], 2, 17) ~= A.reserved then
    return 4
  end
end

-- An error leaves the call as it was, and it can be committed again.
local undone = {}
local function call(undo, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    for i = #undone, 1, -1 do
      redis.pcall(unpack(undone[i]))
    end
    if redis.pcall('HGET', K.stages, 'runs') == '0' then
      redis.pcall('HDEL', K.stages, 'runs')
    end
    error(reply)
  end
  undone[#undone + 1] = undo
end
call({'HINCRBY', K.stages, 'runs', -runs}, 'HINCRBY', K.stages, 'runs', runs)
if K.group then
  local left = redis.call('PTTL', K.group)
  call({'HDEL', K.group, 'begun'}, 'HSET', K.group, 'begun', A.reserved)
  call(left > 0 and {'PEXPIRE', K.group, left} or nil, 'PERSIST', K.group) -- its reservation would have ended by itself
end
call({'LREM', K.staged, -1, token}, 'RPUSH', K.staged, token)
call(nil, 'HSET', K.stages, token, string.format('c%013.0f', now()))
return 0
