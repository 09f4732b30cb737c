#!lua
-- Restores the last claimed tick of a schedule, if it is lost or is no tick: the schedule
-- continues from now on.
--
-- KEYS  ticks, schedules
-- ARGV  field: the schedule's; tick: the one that may not be queued a second time (20
--       digits, of a dynamic schedule with its 16 of revision); schedule: its id, '' for a task
-- Returns one of
--         a text: what the field had, '' for nothing; it now has that tick or the server's
--            time, whichever is later
--         1  the last claimed tick is there
--         0  the schedule is not there with that revision
-- include clock.lua
-- include tick.lua
local tick, id = A.tick, A.schedule
local revision = string.sub(tick, 21)
if id ~= '' then
  local stored = redis.call('HGET', K.schedules, id)
  if not stored or string.sub(stored, 1, 16) ~= revision then
    return 0
  end
end
local last = redis.call('HGET', K.ticks, A.field)
if last and isTick(last, revision) then
  return 1
end
local present = string.format('%011.0f%06.0f000', serverTime()) .. revision
redis.call('HSET', K.ticks, A.field, present < tick and tick or present)
return last or ''
