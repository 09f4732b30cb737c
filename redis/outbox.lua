#!lua flags=no-writes
-- Reads entries of an outbox, not more than is good for one reply.
--
-- KEYS  1 outbox
-- ARGV  1 how many entries to pass over, 2 how many to read at most, 3 how many
--       bytes at most, unless the first has more, 4 head, or tail to begin with
--       the newest
-- Returns how many are behind them, and the entries, in this order.
local from, most = tonumber(ARGV[1]), tonumber(ARGV[3])
local length = redis.call('LLEN', KEYS[1])
local found, bytes = {}, 0
for i = from, math.min(length, from + tonumber(ARGV[2])) - 1 do
  local at = ARGV[4] == 'tail' and -1 - i or i
  local entry = redis.call('LRANGE', KEYS[1], at, at)[1]
  bytes = bytes + #entry
  if bytes > most and #found > 0 then
    break
  end
  found[#found + 1] = entry
end
return {math.max(0, length - from - #found), found}
