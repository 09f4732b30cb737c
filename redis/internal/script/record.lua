#!lua flags=allow-oom
-- Reads a run's record, and notes who waits for the run's end.
--
-- KEYS  record; waiters: a hash of a run's id to the names of its waiters; progress: the
--       run's; staged: only if the caller has not moved what there is
-- ARGV  waiter: '' for none; id: the run's
-- Returns an array of the record and the progress, '' for none; nil if there is no record; or
--       1 if runs are to be moved by unstage.lua first, and the run may be one of them.
--       The record is a letter for the state (d delayed, q queued, r running, s succeeded, f
--       failed), 13 digits that are when a delayed run is due in ms since the epoch, and what
--       wire.ParseRecord reads.
-- include clock.lua
if K.staged and redis.call('EXISTS', K.staged) == 1 then
  return 1
end
local record = redis.call('GET', K.record)
if not record then
  return false
end
local state = string.sub(record, 1, 1)
if state == 'd' then
  if tonumber(string.sub(record, 2, 14)) <= now() then
    record = 'q' .. string.sub(record, 2)
  end
end
if A.waiter ~= '' and state ~= 's' and state ~= 'f' then
  local waiting = redis.call('HGET', K.waiters, A.id)
  if not waiting then
    redis.call('HSET', K.waiters, A.id, A.waiter)
  elseif not string.find(waiting, A.waiter, 1, true) then
    redis.call('HSET', K.waiters, A.id, waiting .. ' ' .. A.waiter)
  end
  redis.call('PEXPIRE', K.waiters, 60000) -- who still waits asks again before that
end
return {record, redis.call('GET', K.progress) or ''}
