#!lua flags=allow-oom
-- Reads a run's record, and notes who is to be told of the run's end.
--
-- KEYS  1 the record
-- ARGV  1 the waiter, '' for none
-- Returns the record's fields and values, an empty array when there is none.
local fields = redis.call('HGETALL', KEYS[1])
if #fields == 0 then
  return fields
end
local state, due, waiting, at
for i = 1, #fields, 2 do
  if fields[i] == 's' then
    state, at = fields[i + 1], i + 1
  elseif fields[i] == 'u' then
    due = tonumber(fields[i + 1])
  elseif fields[i] == 'w' then
    waiting = fields[i + 1]
  end
end
if state == 'delayed' and due then
  local time = redis.call('TIME')
  if due <= time[1] * 1000 + math.floor(time[2] / 1000) then
    fields[at] = 'queued'
  end
end
if ARGV[1] ~= '' and state ~= 'succeeded' and state ~= 'failed' then
  if not waiting then
    redis.call('HSET', KEYS[1], 'w', ARGV[1])
  elseif not string.find(waiting, ARGV[1], 1, true) then
    redis.call('HSET', KEYS[1], 'w', waiting .. ' ' .. ARGV[1])
  end
end
return fields
