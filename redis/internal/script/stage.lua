#!lua
-- Stores a page of the runs of a large call beside the queue, where takes do not find them,
-- and reserves their ids and unique keys. commit.lua makes all pages part of the queue in one
-- step; else unstage.lua removes them, and what they reserve.
--
-- KEYS  stages; stage: the call's; then for each run its id key and its unique key, if it
--       has them
-- ARGV  token: the call's; lease: ms in which the next page or the commit has to come;
--       before: number of runs on the pages before; check: '1' to store nothing and only
--       check; then for each run its entry (unstage.lua), and letters for its keys: i, u
-- Returns 0 if the page is stored, by this execution or by an earlier one; -1 if the stage is
--       gone; or an array: in turn the place on the page, from 1, of a run in whose way
--       another is, and the id of the other, '' if it is the same. The place is negative
--       if the other is one of a call that is not decided.
-- After an error nothing of the page is stored.
-- include clock.lua
-- include read.lua
local token, before, check = A.token, tonumber(A.before), A.check == '1'
local state = redis.call('HGET', K.stages, token)
local length = redis.call('LLEN', K.stage)
if not check then
  local open = state and string.sub(state, 1, 1) == 'o' and tonumber(string.sub(state, 2)) > now()
  if state and not open or not state and before > 0 or length < before then
    return -1
  end
  if length > before then
    return 0
  end
end

local entries, letters = {}, {}
for i = 1, (#ARGV - #A) / 2 do
  entries[i], letters[i] = nextArg(), nextArg()
end
local reserves = #KEYS > #K and #entries or 0 -- most calls have no such keys
local others, keys = {}, {}
for i = 1, reserves do
  for letter in string.gmatch(letters[i], '[iu]') do
    local key = nextKey()
    keys[#keys + 1] = key
    local owner = redis.call('GET', key)
    local by = owner and string.match(owner, '[^ ]*$')
    local other -- in the run's way
    if not owner or by == token then
      other = nil -- it is free, or an earlier try of this page reserved it
    elseif letter == 'i' and string.sub(owner, 1, 6) ~= 'ended:' then
      other = ''
    elseif letter == 'u' and string.sub(owner, 1, 1) ~= ' ' then
      other = string.match(owner, '^%S*')
    end
    if other then
      others[#others + 1] = string.sub(by, 1, 6) == 'stage:' and -i or i
      others[#others + 1] = other
    end
  end
end
if #others > 0 then
  return others
end
if check then
  return 0
end

local owners = {}
for i = 1, reserves do
  local entry = entries[i]
  for letter in string.gmatch(letters[i], '[iu]') do
    local owner = token
    if letter == 'u' then
      local at = 34 + struct.unpack('>I4', entry, 30)
      owner = string.sub(entry, at + 9, at + 8 + string.byte(entry, at + 8)) .. ' ' .. token
    end
    owners[#owners + 1] = owner
  end
end

-- An error leaves nothing of the page.
local function call(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    for _, key in ipairs(keys) do
      redis.pcall('DEL', key)
    end
    redis.pcall('LTRIM', K.stage, 0, before - 1)
    if before == 0 then
      redis.pcall('DEL', K.stage) -- LTRIM from 0 to -1 keeps all
      redis.pcall('HDEL', K.stages, token)
    end
    error(reply)
  end
end
call('HSET', K.stages, token, string.format('o%013.0f', now() + tonumber(A.lease)))
for i, key in ipairs(keys) do
  call('SET', key, owners[i])
end
for i = 1, #entries, 4000 do
  call('RPUSH', K.stage, unpack(entries, i, math.min(i + 3999, #entries)))
end
return 0
