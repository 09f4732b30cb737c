#!lua flags=allow-oom
-- Finds a run in batches that are in flight, and notes for the session that
-- holds it that its end was asked for.
--
-- KEYS  for each batch it, its bitmap of finished runs, the session's cancels
-- ARGV  1 the run's id, 2 a failure as records have it, 3 ms to keep the note,
--       4 how many runs of the first batch were looked at before; for each batch
--       its slot
-- Returns how many batches were looked at to their end, 1 if it was found, else 0,
--       and how many runs of the next batch. One call looks at about a mebibyte.
local id = string.char(#ARGV[1]) .. ARGV[1]
local read, size, from = 0, 1, tonumber(ARGV[4])
for n = 1, #KEYS / 3 do
  local batch, done, cancels = KEYS[3 * n - 2], KEYS[3 * n - 1], KEYS[3 * n]
  local length = redis.call('LLEN', batch)
  while from < length do
    if read >= 1048576 then
      return {n - 1, 0, from}
    end
    local largest = 1
    for i, element in ipairs(redis.call('LRANGE', batch, from, from + size - 1)) do
      read, largest = read + #element, math.max(largest, #element)
      local index = from + i - 1
      if string.sub(element, 9, 8 + #id) == id and redis.call('GETBIT', done, index) == 0 then
        redis.call('HSET', cancels, ARGV[4 + n] .. ':' .. index, ARGV[2])
        redis.call('PEXPIRE', cancels, ARGV[3])
        return {n, 1, 0}
      end
    end
    from = from + size
    -- more of small ones
    size = math.min(50, size * 4, math.max(1, math.floor((1048576 - read) / largest)))
  end
  from = 0
end
return {#KEYS / 3, 0, 0}
