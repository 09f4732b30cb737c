#!lua flags=no-writes
-- Reports which keys exist.
--
-- KEYS  any
-- ARGV  none
-- Returns for each key 1 if it exists, else 0.
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.call('EXISTS', key)
end
return found
