#!lua flags=allow-oom
-- Notes in their records that runs of a batch are running, while the batch is
-- still the caller's. A record that says more is left as it is.
--
-- KEYS  1 the slot's batch, 2 its bitmap of finished runs, 3.. records
-- ARGV  for each record the index of its run in the batch
-- Returns 0.
if redis.call('EXISTS', KEYS[1]) == 1 then
  for i = 3, #KEYS do
    local state = redis.call('GETRANGE', KEYS[i], 0, 0)
    if (state == 'q' or state == 'd') and redis.call('GETBIT', KEYS[2], ARGV[i - 2]) == 0 then
      redis.call('SETRANGE', KEYS[i], 0, 'r')
    end
  end
end
return 0
