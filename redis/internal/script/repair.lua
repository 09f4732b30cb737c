#!lua flags=allow-oom
-- Renames keys of a queue that scripts cannot use: of another type than they have, or a
-- number that is none. The new name ends with ':broken:' and the time. Fields that have to be
-- numbers and are none are set anew.
--
-- KEYS  any of one queue, inflight, leases, takes, stages and staged among them
-- ARGV  for each key its kind: its type; or number and count for strings, of which the first
--       becomes unlike all that it was; numbers and policy for hashes; inflight, leases,
--       takes, stages and staged for themselves; or place, for the one key that is the
--       pendingRun of a run; then, if there is one key with fields, the cursor where to
--       continue; or of place the value that replaces it
-- Returns an array of
--         for each renamed key: its place among KEYS, its type, its new name
--         for each key with broken fields: its place, its type, ''
--         for each key with more fields than one call looks at: its place, '', the cursor
-- It looks for batches. Nobody can name their keys before; they have the queue's hash tag.
-- include clock.lua
local present = string.format('%.0f', now())
local types = {
  number = 'string', count = 'string', numbers = 'hash', policy = 'hash', takes = 'hash',
  inflight = 'set', leases = 'zset', stages = 'hash', staged = 'list', place = 'string',
}
-- Takes see to the fields of takes that are no numbers: a number that is used must stay so.
local counted = {numbers = true, policy = true}
local at, found = {}, {}

local function isNumber(text)
  return string.find(text, '^%-?%d+$') and #text <= 16
end

-- Numbers of backlogs go on behind all that were given, which are fewer than milliseconds.
local anew = {front = '-' .. present, back = present, turn = present, started = present}

local function repairFields(key, kind)
  local cursor, broken, pages = ARGV[#KEYS + 1] or '0', false, 0
  repeat
    pages = pages + 1
    local page = redis.call('HSCAN', key, cursor, 'COUNT', 1000)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      local field = page[2][i]
      if not isNumber(page[2][i + 1]) and (kind ~= 'policy' or anew[field]) then
        broken = true
        if kind == 'policy' then
          redis.call('HSET', key, field, anew[field])
        else
          redis.call('HDEL', key, field)
        end
      end
    end
  until cursor == '0' or pages == 5
  return broken, cursor
end

-- what the keys of a queue open with
local function base()
  return string.sub(KEYS[at.stages], 1, -7)
end

-- counts the runs of large calls anew that are committed and not moved
local function countStaged()
  local n = 0
  for _, token in ipairs(redis.call('LRANGE', KEYS[at.staged], 0, 999)) do
    local stage = base() .. token
    n = n + (redis.call('TYPE', stage).ok == 'list' and redis.call('LLEN', stage) or 0)
  end
  if n > 0 then
    redis.call('HSET', KEYS[at.stages], 'runs', n)
  end
end

local renew = {
  -- of calls that are not committed nothing is stored
  stages = function(key)
    if redis.call('TYPE', KEYS[at.staged]).ok == 'list' then
      for _, token in ipairs(redis.call('LRANGE', KEYS[at.staged], 0, 999)) do
        redis.call('HSET', key, token, string.format('c%013.0f', now()))
      end
      countStaged()
    end
  end,
  staged = function(key)
    if redis.call('TYPE', KEYS[at.stages]).ok == 'hash' then
      local states, calls = redis.call('HGETALL', KEYS[at.stages]), {}
      for i = 1, #states, 2 do
        if string.sub(states[i + 1], 1, 1) == 'c' then
          calls[#calls + 1] = states[i + 1] .. states[i] -- by when they were committed
        end
      end
      table.sort(calls)
      for _, call in ipairs(calls) do
        redis.call('RPUSH', key, string.sub(call, 15))
      end
    end
  end,
  number = function(key)
    redis.call('SET', key, present)
  end,
  -- without it the run would pass for one that was queued or cancelled already
  place = function(key)
    redis.call('SET', key, ARGV[#KEYS + 1], 'PX', 2592000000)
  end,
  policy = function(key)
    redis.call('HSET', key, 'front', anew.front, 'back', present, 'turn', present, 'started', present)
  end,
  -- sessions renew their leases well before this one ends
  leases = function(key)
    for _, session in ipairs(redis.call('HKEYS', KEYS[at.takes])) do
      redis.call('ZADD', key, now() + 30000, session)
    end
  end,
  -- an audit finds older batches
  inflight = function(key)
    local takes, looks = redis.call('HGETALL', KEYS[at.takes]), 8000
    for i = 1, #takes, 2 do
      local last = tonumber(takes[i + 1]) or 0
      for number = last, math.max(1, last - 200), -1 do
        local name = string.format('%s:%.0f', takes[i], number)
        looks = looks - 1
        if looks > 0 and redis.call('EXISTS', string.sub(key, 1, -9) .. 'f:' .. name) == 1 then
          redis.call('SADD', key, name)
        end
      end
    end
  end,
}

for i in ipairs(KEYS) do
  at[ARGV[i]] = i
end
local renamed = {}
for i, key in ipairs(KEYS) do
  local kind = ARGV[i]
  local want, is = types[kind] or kind, redis.call('TYPE', key).ok
  local counts = kind == 'number' or kind == 'count'
  if is ~= 'none' and (is ~= want or counts and not isNumber(redis.call('GET', key))) then
    local name = key .. ':broken:' .. present
    redis.call('RENAME', key, name)
    found[#found + 1] = {i, is, name}
    renamed[#renamed + 1] = i
  elseif kind == 'stages' and is == 'hash' then
    local runs = redis.call('HGET', key, 'runs')
    if runs and not isNumber(runs) then
      redis.call('HDEL', key, 'runs')
      if redis.call('TYPE', KEYS[at.staged]).ok == 'list' then
        countStaged()
      end
      found[#found + 1] = {i, is, ''}
    end
  elseif counted[kind] and is == 'hash' then
    local broken, cursor = repairFields(key, kind)
    if broken then
      found[#found + 1] = {i, is, ''}
    end
    if cursor ~= '0' then
      found[#found + 1] = {i, '', cursor}
    end
  end
end
for _, i in ipairs(renamed) do
  local again = renew[ARGV[i]]
  if again then
    again(KEYS[i])
  end
end
return found
