#!lua flags=allow-oom
-- Replaces or deletes strings that belong to runs: ids, unique keys and records. It does so
-- only if they are as the auditor saw them, and their run still is nowhere.
--
-- KEYS  inflight, backlogs; then the places of runs, of which backlogs is the last; then the
--       strings
-- ARGV  repair: '1' to repair, '0' to count only; brief: '1' to look at less in one call;
--       places: how many there are; batches: what the keys of batches begin with; then for
--       each string the id of its run, its value, the value that replaces it ('' for none),
--       ms to keep that ('' if the string may be one that expires: others are not touched)
-- Returns how many are as they were and of runs that are in no batch, and in none of the
--       places near its ends; -1 if that is too much to look at in one call.
-- It looks at the batches that inflight lists now. Nobody can name their keys before; they
-- have the queue's hash tag.
-- include read.lua
local brief = A.brief == '1'
local ends, most = 1000, brief and 1048576 or 16777216 -- stored runs at each end of a place, and bytes in all
local places, strings, wanted, read = {}, {}, {}, 0
for i = 1, tonumber(A.places) do
  places[i] = nextKey()
end
for key in nextKey do
  local id, value, instead, keep = nextArg(), nextArg(), nextArg(), nextArg()
  strings[#strings + 1] = {key = key, id = id, value = value, instead = instead, keep = keep}
  wanted[id] = true
end

local skip = 0 -- bytes before a stored run
local function look(storedRuns)
  for _, stored in ipairs(storedRuns) do
    read = read + #stored
    stored = skip > 0 and string.sub(stored, skip + 1) or stored
    if #stored > 9 then
      wanted[string.sub(stored, 10, 9 + string.byte(stored, 9))] = nil
    end
  end
  return read <= most
end

-- reads a part in pages, as its stored runs can be large
local function range(command, key, first, last)
  for i = first, last, 100 do
    if not look(redis.call(command, key, i, math.min(i + 99, last))) then
      return false
    end
  end
  return true
end

local function bothEnds(length, command, key)
  local n = redis.call(length, key)
  if brief and n > 2 * ends then
    return false -- a run can be between its ends
  end
  local half = math.min(n, ends)
  return range(command, key, 0, half - 1) and range(command, key, math.max(half, n - ends), n - 1)
end

for _, name in ipairs(redis.call('SMEMBERS', K.inflight)) do
  local batch = A.batches .. name
  if not range('LRANGE', batch, 0, redis.call('LLEN', batch) - 1) then
    return -1
  end
end
for _, place in ipairs(places) do
  local kind = redis.call('TYPE', place).ok
  skip = place == K.backlogs and 49 or 0
  if kind == 'list' and not bothEnds('LLEN', 'LRANGE', place)
    or kind == 'zset' and not bothEnds('ZCARD', 'ZRANGE', place) then
    return -1
  end
end

local n = 0
for _, s in ipairs(strings) do
  if wanted[s.id] and redis.call('GET', s.key) == s.value
    and (s.keep == '' or redis.call('PTTL', s.key) == -1) then
    n = n + 1
    if A.repair == '1' and s.instead == '' then
      redis.call('DEL', s.key)
    elseif A.repair == '1' then
      redis.call('SET', s.key, s.instead, 'PX', s.keep)
    end
  end
end
return n
