#!lua
-- Reads the runs of batches that are in flight, a page of them.
--
-- KEYS  for each batch: the batch, its bitmap of finished runs
-- ARGV  from: index of the first run to read of the first batch; most, bytes: at most so many runs,
--       and no more once there are so many bytes
-- Returns an array of
--       1. how many batches were read to their end
--       2. the index of the first run of the next batch that was not read
--       3. how many runs were looked at
--       4. of each run that is not finished its batch, from 1, its index and the stored run
--       5. in turn the place of a batch that cannot be read, and the text that says why
-- include pages.lua
local from, most, bytes = tonumber(A.from), tonumber(A.most), tonumber(A.bytes)
local found, odd, looked = {}, {}, 0
for n = 1, #KEYS / 2 do
  local batch, done = KEYS[2 * n - 1], KEYS[2 * n]
  local ok, length = pcall(redis.call, 'LLEN', batch)
  local finished
  if ok then
    ok, finished = pcall(redis.call, 'GET', done)
  end
  if not ok then
    odd[#odd + 1] = n
    odd[#odd + 1] = type(finished or length) == 'table' and (finished or length).err or tostring(finished or length)
  elseif looked >= most or bytes <= 0 then
    return {n - 1, from, looked, found, odd}
  else
    local next = readEntries('LRANGE', batch, from, math.min(from + most - looked, length) - 1, 1, bytes, function(entry, index)
      looked, bytes = looked + 1, bytes - #entry
      local byte = finished and string.byte(finished, math.floor(index / 8) + 1) or 0
      if bit.band(byte or 0, bit.rshift(128, index % 8)) == 0 then
        found[#found + 1] = n
        found[#found + 1] = index
        found[#found + 1] = entry
      end
    end)
    if next < length then
      return {n - 1, next, looked, found, odd}
    end
  end
  from = 0
end
return {#KEYS / 2, 0, looked, found, odd}
