#!lua flags=no-writes
-- Reads entries of an outbox or a stage, as many as are good for one reply.
--
-- KEYS  list
-- ARGV  skip: how many entries to pass over; entries: how many to read at most; bytes: how
--       many at most, unless the first entry has more; from: head, or tail to begin with
--       the newest
-- Returns an array of
--       1. how many entries are behind these
--       2. the entries, in this order
local from, most = tonumber(A.skip), tonumber(A.bytes)
local length = redis.call('LLEN', K.list)
local found, bytes = {}, 0
for i = from, math.min(length, from + tonumber(A.entries)) - 1 do
  local at = A.from == 'tail' and -1 - i or i
  local entry = redis.call('LRANGE', K.list, at, at)[1]
  bytes = bytes + #entry
  if bytes > most and #found > 0 then
    break
  end
  found[#found + 1] = entry
end
return {math.max(0, length - from - #found), found}
