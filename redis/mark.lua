#!lua flags=allow-oom
-- Finds a run in batches that are in flight, and notes for the session that
-- holds it that its end was asked for.
--
-- KEYS  for each batch it, its bitmap of finished runs, the session's cancels
-- ARGV  1 the run's id, 2 a failure as records have it, 3 ms to keep the note; for
--       each batch its slot
-- Returns how many batches were looked at, and 1 if it was found, else 0.
local id = string.char(#ARGV[1]) .. ARGV[1]
local read = 0
for n = 1, #KEYS / 3 do
  local batch, done, cancels = KEYS[3 * n - 2], KEYS[3 * n - 1], KEYS[3 * n]
  local length = redis.call('LLEN', batch)
  for from = 0, length - 1, 50 do
    for i, element in ipairs(redis.call('LRANGE', batch, from, from + 49)) do
      read = read + #element
      local index = from + i - 1
      if string.sub(element, 9, 8 + #id) == id and redis.call('GETBIT', done, index) == 0 then
        redis.call('HSET', cancels, ARGV[3 + n] .. ':' .. index, ARGV[2])
        redis.call('PEXPIRE', cancels, ARGV[3])
        return {n, 1}
      end
    end
  end
  if read > 16777216 then
    return {n, 0}
  end
end
return {#KEYS / 3, 0}
