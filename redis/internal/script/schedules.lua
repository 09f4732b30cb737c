#!lua
-- Reads the schedules of queues that have few.
--
-- KEYS  for each queue: schedules
-- ARGV  most, large: reads none of a queue that has more schedules, or more bytes of them
--       total, bytes: reads no more queues once there are so many schedules, or bytes
-- Returns for each queue that was looked at, in turn the id of a schedule and what is stored of it; or
--       a text: why they are to be read by themselves
local most, large, total, bytes = tonumber(A.most), tonumber(A.large), tonumber(A.total), tonumber(A.bytes)

local function read(key)
  local n = redis.call('HLEN', key)
  if n > most then
    return 'they are many'
  end
  local size = 0
  for _, id in ipairs(redis.call('HKEYS', key)) do
    size = size + redis.call('HSTRLEN', key, id)
  end
  if size > large then
    return 'they are large'
  end
  total, bytes = total - n, bytes - size
  return redis.call('HGETALL', key)
end

local reply = {}
for i, key in ipairs(KEYS) do
  if total <= 0 or bytes <= 0 then
    break
  end
  local ok, found = pcall(read, key)
  reply[i] = ok and found or type(found) == 'table' and found.err or tostring(found)
end
return reply
