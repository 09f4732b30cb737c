#!lua flags=allow-oom
-- Notes of a run that came back from a session whose lease had ended that it is
-- about to begin, while the batch is still the caller's: should this session end
-- so too, that counts as a delivery.
--
-- KEYS  1 the slot's batch, 2 its bitmap of finished runs
-- ARGV  1 the run's index in the batch
-- Returns 1, or 0 when the caller holds the run no longer.
local element = redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not element or redis.call('GETBIT', KEYS[2], ARGV[1]) == 1 then
  return 0
end
local flags = string.byte(element, 2) or 0
if flags >= 16 and flags < 240 then
  redis.call('LSET', KEYS[1], ARGV[1], string.sub(element, 1, 1) .. string.char(flags % 16 + 240) .. string.sub(element, 3))
end
return 1
