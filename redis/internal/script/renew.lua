#!lua flags=allow-oom
-- Renews a session's lease of all that it holds in one queue. It also lists what the server
-- takes the session to hold, so that the session can compare.
--
-- KEYS  leases; lost: when some of what the session held was last recovered; to list also
--       inflight, then bitmaps of finished runs
-- ARGV  session; lease: in ms, 0 to list only; to list, cursor: '0' to begin; and most: how
--       many batches in flight, of all sessions, may be looked through
-- Returns the value of lost, '' for none. If it is another than before, the caller asks which
--       of its batches are still there.
--       To list, an array of
--       1. that value
--       2. the next cursor, '0' at the end, '-' if more than most batches are in flight
--       3. the numbers of the session's batches in flight
--       4. of each bitmap, how many runs are finished
-- include clock.lua
-- include read.lua
local prefix = A.session .. ':'
if tonumber(A.lease) > 0 then
  redis.call('ZADD', K.leases, string.format('%.0f', now() + tonumber(A.lease)), A.session)
end
local mark = redis.call('GET', K.lost) or ''
if not K.inflight then
  return mark
end
local numbers, finished, cursor = {}, {}, A.cursor
local most = tonumber(A.most)
if most and redis.call('SCARD', K.inflight) > most then
  cursor = '-'
end
for _ = 1, cursor == '-' and 0 or 10 do -- pages, for it is one step of the server
  local page = redis.call('SSCAN', K.inflight, cursor, 'MATCH', prefix .. '*', 'COUNT', 1000)
  for _, name in ipairs(page[2]) do
    numbers[#numbers + 1] = string.sub(name, #prefix + 1)
  end
  cursor = page[1]
  if cursor == '0' then
    break
  end
end
for i = 1, #KEYS - #K do
  finished[i] = redis.call('BITCOUNT', nextKey())
end
return {mark, cursor, numbers, finished}
