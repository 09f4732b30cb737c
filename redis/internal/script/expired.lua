#!lua flags=allow-oom
-- Finds batches whose session's lease has ended, a page at a time. It also forgets leases
-- that ended a minute ago: an ended lease and none mean the same.
--
-- The name of a session can end with '.' and the length of its lease in ms, before the '+';
-- other leases are ten minutes long at most.
--
-- KEYS  inflight, leases, takes, outbox, pending, stages; callers that do not decide about
--       groups and large calls leave the last two out
-- ARGV  cursor: '0' to begin; page: its size
-- Returns an array of
--       1. the next cursor, '0' at the end
--       2. "session:number" of each batch
--       3. to 5. how many entries are in outbox, in pending and in stages
-- include clock.lua
if A.cursor == '0' then
  local gone = redis.call('ZRANGEBYSCORE', K.leases, '-inf', string.format('%.0f', now() - 60000), 'LIMIT', 0, 500)
  if #gone > 0 then
    redis.call('ZREM', K.leases, unpack(gone))
    redis.call('HDEL', K.takes, unpack(gone))
  end
end
local page = redis.call('SSCAN', K.inflight, A.cursor, 'COUNT', A.page)
local found, over = {}, {}

-- true if a session's lease has ended. A lease that ends later than it could if it
-- were renewed now was renewed before the server's clock was put back: it begins now,
-- so that the session, if it lives, has time to renew it.
local function ended(session)
  local lease = tonumber(redis.call('ZSCORE', K.leases, session) or 0)
  if lease <= now() then
    return true
  end
  local length = tonumber(string.match(session, '%.(%d+)%+?$'))
  if lease - now() > (length or 600000) then
    redis.call('ZADD', K.leases, string.format('%.0f', now() + (length or 10000)), session)
  end
  return false
end

for _, name in ipairs(page[2]) do
  local session = string.match(name, '^[^:]*')
  if over[session] == nil then
    over[session] = ended(session)
  end
  if over[session] then
    found[#found + 1] = name
  end
end
local stages = K.stages and redis.pcall('HLEN', K.stages) or 0
return {page[1], found, redis.call('LLEN', K.outbox), K.pending and redis.call('HLEN', K.pending) or 0,
  type(stages) == 'number' and stages or 1} -- who looks there learns what is wrong
