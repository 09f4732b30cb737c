#!lua
-- Stores a schedule made at run time.
--
-- KEYS  schedules; changes: their number; ticks
-- ARGV  id, task, rule, run; most: how many schedules there may be
-- Returns an array of
--       1. its revision
--       2. since: the time in microseconds after which its ticks come
--       3. its last claimed tick
--       4. only if that of a schedule that was there is lost: what was there instead, '' for
--          nothing; the last claimed tick is the present then
--       or 0 if there are that many schedules, 1 if the id is that of another task's schedule.
--       The server refuses it at maxmemory, before anything is done.
--
-- A schedule is stored as its revision (16 digits), since (16 digits), length of the task (4 digits),
-- task, length of the rule (4 digits), rule, run. In ticks, under the task, a space and the
-- id, it has its last claimed tick (20 digits) and the revision.
-- include clock.lua
-- include tick.lua
local old = redis.call('HGET', K.schedules, A.id)
local since = string.format('%010.0f%06.0f', serverTime())
local task = string.format('%04d', #A.task) .. A.task
local rule = string.format('%04d', #A.rule) .. A.rule
local field = A.task .. ' ' .. A.id
if old then
  if string.sub(old, 33, 32 + #task) ~= task then
    return 1
  end
  if string.sub(old, 33 + #task, 32 + #task + #rule) == rule then
    since = string.sub(old, 17, 32)
  end
elseif redis.call('HLEN', K.schedules) >= tonumber(A.most) then
  return 0
end
local last = redis.call('HGET', K.ticks, field)
local revision = string.format('%016.0f', redis.call('INCRBY', K.changes, 1))
local claimed, lost = last
if not old then
  last = string.rep('0', 20)
elseif last and #last == 36 and isTick(last, string.sub(last, 21)) then
  last = string.sub(last, 1, 20)
else -- no tick that was queued is to be queued again
  last, lost = string.format('%011.0f%06.0f000', serverTime()), last or ''
end
redis.call('HSET', K.ticks, field, last .. revision)
local stored = redis.pcall('HSET', K.schedules, A.id, revision .. since .. task .. rule .. A.run)
if type(stored) == 'table' then
  if claimed then
    redis.pcall('HSET', K.ticks, field, claimed) -- the schedule that is there continues
  else
    redis.pcall('HDEL', K.ticks, field)
  end
  return stored
end
return {revision, since, last, lost}
