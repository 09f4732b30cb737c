#!lua flags=allow-oom
-- Notes that a run is about to begin, or that it is not to blame any more, while the caller
-- still holds it. It is for runs that came back from a session whose lease had ended. If this
-- session ends in the same way, a delivery counts if the run has begun.
--
-- KEYS  batch; done: its bitmap of finished runs
-- ARGV  index: the run's in the batch; bits: the new upper four bits of its flags, 15 if
--       it begins
-- Returns 1, or 0 if the caller holds the run no longer.
local stored = redis.call('LRANGE', K.batch, A.index, A.index)[1]
if not stored or redis.call('GETBIT', K.done, A.index) == 1 then
  return 0
end
local flags, bits = string.byte(stored, 2) or 0, tonumber(A.bits)
if flags >= 16 and math.floor(flags / 16) ~= bits then
  redis.call('LSET', K.batch, A.index, string.sub(stored, 1, 1) .. string.char(flags % 16 + bits * 16) .. string.sub(stored, 3))
end
return 1
