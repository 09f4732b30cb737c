#!lua flags=allow-oom
-- Notes that a run is about to begin, or is cleared, while the batch is still the
-- caller's. The run came back from a session whose lease had ended. If this session ends
-- the same way, that counts as a delivery of a run that began, but not of one that is
-- cleared.
--
-- KEYS  batch; done: its bitmap of finished runs
-- ARGV  index: the run's in the batch; bits: the new upper four bits of its flags, 15 if
--       it begins
-- Returns 1, or 0 when the caller holds the run no longer.
local stored = redis.call('LRANGE', K.batch, A.index, A.index)[1]
if not stored or redis.call('GETBIT', K.done, A.index) == 1 then
  return 0
end
local flags, bits = string.byte(stored, 2) or 0, tonumber(A.bits)
if flags >= 16 and math.floor(flags / 16) ~= bits then
  redis.call('LSET', K.batch, A.index, string.sub(stored, 1, 1) .. string.char(flags % 16 + bits * 16) .. string.sub(stored, 3))
end
return 1
