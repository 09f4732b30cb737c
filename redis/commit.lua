#!lua
-- Makes all pages that stage.lua stored of a large call part of the queue, in one
-- step whose cost does not depend on their number: from now on their runs are queued,
-- and unstage.lua moves them to where they are taken from.
--
-- KEYS  1 stages, 2 staged, 3 the call's stage, 4 its stub; then, of the members of a
--       group, the group
-- ARGV  1 token, 2 number of runs; then the token of what reserved the group
-- Returns 0 when they are queued (by this call or by an earlier one), 1 when another
--       call has stored the members of the group, or 4 when the stage or the group is
--       gone: in both cases nothing of this call is stored, and never will be.
local token, runs = ARGV[1], tonumber(ARGV[2])
local state = redis.call('HGET', KEYS[1], token) or ''
local kind = string.sub(state, 1, 1)
if kind == 'c' or redis.call('EXISTS', KEYS[4]) == 1 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if kind ~= 'o' or tonumber(string.sub(state, 2)) <= now or redis.call('LLEN', KEYS[3]) ~= runs then
  return 4
end
if KEYS[5] then
  local has = redis.call('HMGET', KEYS[5], 'begun', 'then')
  if has[1] == ARGV[3] then
    return 1
  elseif not has[2] or string.sub(has[2], 2, 17) ~= ARGV[3] then
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
    if redis.pcall('HGET', KEYS[1], 'runs') == '0' then
      redis.pcall('HDEL', KEYS[1], 'runs')
    end
    error(reply)
  end
  undone[#undone + 1] = undo
end
call({'HINCRBY', KEYS[1], 'runs', -runs}, 'HINCRBY', KEYS[1], 'runs', runs)
if KEYS[5] then
  local left = redis.call('PTTL', KEYS[5])
  call({'HDEL', KEYS[5], 'begun'}, 'HSET', KEYS[5], 'begun', ARGV[3])
  call(left > 0 and {'PEXPIRE', KEYS[5], left} or nil, 'PERSIST', KEYS[5]) -- its reservation would have ended by itself
end
call({'LREM', KEYS[2], -1, token}, 'RPUSH', KEYS[2], token)
call(nil, 'HSET', KEYS[1], token, string.format('c%013.0f', now))
return 0
