#!lua flags=allow-oom
-- Extends a session's lease of everything it holds in one queue.
--
-- KEYS  1 leases, 2 when some of what the session held was last recovered
-- ARGV  1 session, 2 lease in ms
-- Returns the value of the second key, '' when there is none. When it is another
--       than before, the caller has to ask which of its batches are still there.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
return redis.call('GET', KEYS[2]) or ''
