#!lua flags=allow-oom
-- Counts anew how many runs are in flight of each limit. Each call counts them all: between
-- two calls they change.
--
-- KEYS  inflight, backlogs, rounds, policy, recheck, running
-- ARGV  repair: '1' to repair, '0' to count only; brief: '1' to look at less in one call;
--       batches, bitmaps: what the keys of batches and of their bitmaps of finished runs
--       begin with; from: where to continue in running, '' at first
-- Returns an array of
--       1. of how many limits the count is wrong, -1 if too much is in flight for one call
--       2. where to continue, '' at the end
-- It looks at the batches that inflight lists now. Nobody can name their keys before; they
-- have the queue's hash tag.
-- include backlogs.lua
local repair, brief = A.repair == '1', A.brief == '1'

-- what is counted beside a page of what is noted: batches in flight; their runs, a limit
-- as two of them; and how much is noted in a page
local fewBatches, fewRuns, page = 1000, 10000, 500
local most = brief and 1048576 or 16777216 -- bytes that are looked at

local is, read, runs = {}, 0, 0
local few = redis.call('SCARD', K.inflight) <= fewBatches
if not few and brief then
  return {-1, ''}
end
for _, name in ipairs(redis.call('SMEMBERS', K.inflight)) do
  local batch, done = A.batches .. name, A.bitmaps .. name
  local partly = redis.call('EXISTS', done) == 1
  local size = redis.call('LLEN', batch)
  runs = runs + size
  for at = 0, size - 1, 100 do
    for i, stored in ipairs(redis.call('LRANGE', batch, at, at + 99)) do
      read = read + #stored
      local run = backlogs().read(stored)
      if run and not (partly and redis.call('GETBIT', done, at + i - 1) == 1) then
        for _, limit in ipairs(run.limits) do
          if limit.per == 0 and limit.counts then
            runs = is[limit.key] and runs or runs + 2
            is[limit.key] = (is[limit.key] or 0) + 1
          end
        end
      end
    end
    few = few and runs <= fewRuns
    if read > most or not few and brief then
      return {-1, ''}
    end
  end
end

local n = 0
local function compare(key, noted)
  if (is[key] or 0) == tonumber(noted or 0) then
    return
  end
  n = n + 1
  if repair then
    if is[key] then
      redis.call('HSET', K.running, key, is[key])
    else
      redis.call('HDEL', K.running, key)
    end
    redis.call('ZADD', K.recheck, 0, backlogs().hash('c' .. key))
  end
end

if A.from == '' then
  for key in pairs(is) do
    compare(key, redis.call('HGET', K.running, key))
  end
  if few then
    return {n, '0'}
  end
end
local cursor, noted = '0'
if few then
  cursor, noted = unpack(redis.call('HSCAN', K.running, A.from, 'COUNT', page))
else
  noted = redis.call('HGETALL', K.running) -- or all in flight would be read for each page
end
for i = 1, #noted, 2 do
  if repair or not is[noted[i]] then -- the first call has reported the others
    compare(noted[i], noted[i + 1])
  end
end
return {n, cursor ~= '0' and cursor or ''}
