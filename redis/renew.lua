#!lua flags=allow-oom
-- Extends a session's lease of everything it holds in one queue.
--
-- KEYS  1 leases, 2 the mark that some of what the session held was recovered
-- ARGV  1 session, 2 lease in ms
-- Returns 1, or 0 when there was that mark, which is gone then: the caller has
--       to ask which of its batches are still there.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
return 1 - redis.call('DEL', KEYS[2])
