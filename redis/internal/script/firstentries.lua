#!lua
-- Reads the first entries of lists and sorted sets, and the first runs in flight.
--
-- KEYS  places: of any queues of the server
-- ARGV  most: so many entries of each place; total, bytes: reads no more places once there are so
--       many entries, or bytes; then for each place how to read it: 'list'; 'due', 'later' or 'all' of
--       the runs in a sorted set; 'inflight' for the runs of the batches that this set lists
-- Returns for each place that was read the entries, each with what belongs to it behind it: the score in
--       a sorted set, the name of its batch of a run in flight, else ''; or a text, the error
--       that keeps it from being read. Of a place with much in it the last entries can be missing.
-- include clock.lua
-- include pages.lua
local most, total, bytes = tonumber(A.most), tonumber(A.total), tonumber(A.bytes)

local function readBatches(inflight, add)
  local base = string.match(inflight, '^(.*)inflight$')
  if redis.call('SCARD', inflight) > 200 then
    error({err = 'ERR too many batches'})
  end
  local names = {}
  for _, name in ipairs(redis.call('SMEMBERS', inflight)) do
    local session, number = string.match(name, '^([^:]*):?(.*)$')
    names[#names + 1] = {name, session, string.rep('0', 20 - #number) .. number}
  end
  table.sort(names, function(a, b)
    if a[2] ~= b[2] then
      return a[2] < b[2]
    end
    return a[3] < b[3]
  end)
  local left = most
  for _, name in ipairs(names) do
    if left <= 0 or bytes <= 0 then
      return
    end
    local finished = redis.call('GET', base .. 'd:' .. name[1])
    readEntries('LRANGE', base .. 'f:' .. name[1], 0, 9999999, 1, bytes, function(stored, index)
      local byte = finished and string.byte(finished, math.floor(index / 8) + 1) or 0
      if bit.band(byte or 0, bit.rshift(128, index % 8)) == 0 then
        left = left - 1
        add(stored, name[1])
      end
      return left <= 0
    end)
  end
end

local function readPlace(place, kind)
  local entries = {}
  local function add(entry, more)
    total, bytes = total - 1, bytes - #entry
    entries[#entries + 1] = entry
    entries[#entries + 1] = more or ''
  end
  if kind == 'inflight' then
    readBatches(place, add)
  elseif kind == 'list' then
    readEntries('LRANGE', place, 0, most - 1, 1, bytes, function(entry)
      add(entry)
    end)
  else
    local from, to = 0, redis.call('ZCARD', place)
    if kind ~= 'all' then
      local due = redis.call('ZCOUNT', place, '-inf', string.format('%.0f', now()))
      if kind == 'due' then
        to = due
      else
        from = due
      end
    end
    readEntries('ZRANGE', place, from, math.min(from + most, to) - 1, 1, bytes, function(entry)
      add(entry, redis.call('ZSCORE', place, entry))
    end)
  end
  return entries
end

local reply = {}
for i, place in ipairs(KEYS) do
  if total <= 0 or bytes <= 0 then
    break
  end
  local ok, entries = pcall(readPlace, place, ARGV[#A + i])
  reply[i] = ok and entries or type(entries) == 'table' and entries.err or tostring(entries)
end
return reply
