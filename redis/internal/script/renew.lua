#!lua flags=allow-oom
-- Extends a session's lease of everything it holds in one queue, and lists what
-- the server takes it to hold, so that the session can compare.
--
-- KEYS  leases; lost: when some of what the session held was last recovered; to list also
--       inflight, then bitmaps of finished runs
-- ARGV  session; lease: in ms, 0 to list only; to list, cursor: '0' to begin, and most: of
--       how many batches in flight at most, of all sessions: to list costs so much
-- Returns the value of the second key, '' when there is none. When it is another
--       than before, the caller has to ask which of its batches are still there.
--       To list, an array of that value, the next cursor, '0' at the end, '-' if
--       more are in flight, the numbers of the session's batches in flight, and of each bitmap how
--       many runs are finished.
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
  for _, member in ipairs(page[2]) do
    numbers[#numbers + 1] = string.sub(member, #prefix + 1)
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
