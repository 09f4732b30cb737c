#!lua flags=allow-oom
-- Looks for a run in batches that are in flight, and notes for its session that the run is to
-- end.
--
-- KEYS  for each batch: the batch, its bitmap of finished runs, its session's cancels
-- ARGV  id: the run's; failure: as records have it; keep: ms to keep the note; looked: how
--       many runs of the first batch earlier calls looked at; then the number of each batch
-- Returns an array of
--       1. how many batches it looked at to their end
--       2. 1 if it found the run, else 0
--       3. how many runs of the next batch it looked at
--       One call looks at about a mebibyte.
-- include read.lua
local id = string.char(#A.id) .. A.id
local read, from = 0, tonumber(A.looked)
for n = 1, #KEYS / 3 do
  local batch, done, cancels, number = nextKey(), nextKey(), nextKey(), nextArg()
  local length = redis.call('LLEN', batch)
  while from < length do
    if read >= 1048576 then
      return {n - 1, 0, from}
    end
    local stored = redis.call('LRANGE', batch, from, from)[1]
    read = read + #stored
    if string.sub(stored, 9, 8 + #id) == id and redis.call('GETBIT', done, from) == 0 then
      redis.call('HSET', cancels, number .. ':' .. from, A.failure)
      redis.call('PEXPIRE', cancels, A.keep)
      return {n, 1, 0}
    end
    from = from + 1
  end
  from = 0
end
return {#KEYS / 3, 0, 0}
