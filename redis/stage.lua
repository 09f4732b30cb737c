#!lua
-- Stores a page of the runs of one large call beside the queue, where nobody takes
-- them, and reserves their ids and unique keys. commit.lua makes all its pages part of
-- the queue in one step; else unstage.lua takes them and what they reserve away.
--
-- KEYS  1 stages, 2 the call's stage; then for each run its id key and its unique key,
--       if it has them
-- ARGV  1 token, 2 ms in which the next page or the commit has to come, 3 number of
--       runs on the pages before, 4 '1' to store nothing and only check; then for each
--       run its entry (unstage.lua), and letters for its keys: i, u
-- Returns 0 when the page is stored (by this call or by an earlier one), -1 when the
--       stage is gone, or an array: of each run in whose way another is, its place
--       on the page, from 1, and the id of the other, '' when it is its own; the place
--       is negative when the other is one of a call that is not decided.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token, before, check = ARGV[1], tonumber(ARGV[3]), ARGV[4] == '1'
local state = redis.call('HGET', KEYS[1], token)
local length = redis.call('LLEN', KEYS[2])
if not check then
  local open = state and string.sub(state, 1, 1) == 'o' and tonumber(string.sub(state, 2)) > now
  if state and not open or not state and before > 0 or length < before then
    return -1
  end
  if length > before then
    return 0
  end
end

local others, k = {}, 3
for a = 6, #KEYS >= k and #ARGV or 0, 2 do -- most calls have none
  for letter in string.gmatch(ARGV[a], '[iu]') do
    local owner = redis.call('GET', KEYS[k])
    k = k + 1
    local by = owner and string.match(owner, '[^ ]*$')
    local place = by and string.sub(by, 1, 6) == 'stage:' and 2 - a / 2 or a / 2 - 2
    if by == token then
      place = nil -- an earlier try of this page reserved it
    elseif owner and letter == 'i' and string.sub(owner, 1, 6) ~= 'ended:' then
      others[#others + 1] = place
      others[#others + 1] = ''
    elseif owner and letter == 'u' and string.sub(owner, 1, 1) ~= ' ' then
      others[#others + 1] = place
      others[#others + 1] = string.match(owner, '^%S*')
    end
  end
end
if #others > 0 then
  return others
end
if check then
  return 0
end

local entries, own = {}, {}
for a = 5, #ARGV, 2 do
  entries[(a - 3) / 2] = ARGV[a]
end
k = 3
for i = 1, #KEYS >= k and #entries or 0 do
  local entry = entries[i]
  for letter in string.gmatch(ARGV[4 + 2 * i], '[iu]') do
    local owner = token
    if letter == 'u' then
      local at = 34 + struct.unpack('>I4', entry, 30)
      owner = string.sub(entry, at + 9, at + 8 + string.byte(entry, at + 8)) .. ' ' .. token
    end
    own[k] = owner
    k = k + 1
  end
end

-- An error leaves nothing of the page.
local function call(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    for i = 3, k - 1 do
      redis.pcall('DEL', KEYS[i])
    end
    redis.pcall('LTRIM', KEYS[2], 0, before - 1)
    if before == 0 then
      redis.pcall('DEL', KEYS[2]) -- LTRIM from 0 to -1 keeps all
      redis.pcall('HDEL', KEYS[1], token)
    end
    error(reply)
  end
end
call('HSET', KEYS[1], token, string.format('o%013.0f', now + tonumber(ARGV[2])))
for i = 3, k - 1 do
  call('SET', KEYS[i], own[i])
end
for i = 1, #entries, 4000 do
  call('RPUSH', KEYS[2], unpack(entries, i, math.min(i + 3999, #entries)))
end
return 0
