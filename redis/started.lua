#!lua flags=allow-oom
-- Notes in their records that runs of a batch are running, while the batch is
-- still the caller's. A record that says more is left as it is.
--
-- KEYS  1 the slot's batch, 2.. records
-- ARGV  none
-- Returns 0.
if redis.call('EXISTS', KEYS[1]) == 1 then
  for i = 2, #KEYS do
    local state = redis.call('GETRANGE', KEYS[i], 0, 0)
    if state == 'q' or state == 'd' then
      redis.call('SETRANGE', KEYS[i], 0, 'r')
    end
  end
end
return 0
