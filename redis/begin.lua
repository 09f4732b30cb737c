#!lua flags=allow-oom
-- Notes of a run that came back from a session whose lease had ended that it is
-- about to begin, or that it is cleared, while the batch is still the caller's. If
-- this session ends so too, that counts as a delivery of a run that began, but not
-- of one that is cleared.
--
-- KEYS  1 the slot's batch, 2 its bitmap of finished runs
-- ARGV  1 the run's index in the batch, 2 the new upper four bits of its flags: 15
--       if it begins
-- Returns 1, or 0 when the caller holds the run no longer.
local element = redis.call('LRANGE', K.batch, A.index, A.index)[1]
if not element or redis.call('GETBIT', K.done, A.index) == 1 then
  return 0
end
local flags, bits = string.byte(element, 2) or 0, tonumber(A.bits)
if flags >= 16 and math.floor(flags / 16) ~= bits then
  redis.call('LSET', K.batch, A.index, string.sub(element, 1, 1) .. string.char(flags % 16 + bits * 16) .. string.sub(element, 3))
end
return 1
