#!lua flags=allow-oom
-- Notes of runs in flight, for their sessions, that they are to end.
--
-- KEYS  for each run: its batch, the batch's bitmap of finished runs, its session's cancels
-- ARGV  failure: as records have it; keep: ms to keep the note; then for each run the number of
--       its batch, its index there, and its id
-- Returns for each run 1, or 0 if the session does not hold it any more.
-- include read.lua
local statuses = {}
for i = 1, #KEYS / 3 do
  local batch, done, cancels = nextKey(), nextKey(), nextKey()
  local number, index, id = nextArg(), nextArg(), nextArg()
  local stored = redis.call('LRANGE', batch, index, index)[1]
  statuses[i] = 0
  if stored and string.sub(stored, 9, 9 + #id) == string.char(#id) .. id and redis.call('GETBIT', done, index) == 0 then
    redis.call('HSET', cancels, number .. ':' .. index, A.failure)
    redis.call('PEXPIRE', cancels, A.keep)
    statuses[i] = 1
  end
end
return statuses
