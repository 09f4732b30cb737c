#!lua flags=allow-oom
-- Reads a page of the instances that have not expired.
--
-- KEYS  instances: as announce.lua stores them
-- ARGV  cursor: '0' to begin; page: how many to look at; kept: ms after which an instance has
--       expired; longest: bytes of an instance, longer ones are skipped
-- Returns an array of the next cursor, '0' at the end; and then in turn an id, and what is stored
--       of the instance.
-- include clock.lua
local page = redis.call('HSCAN', K.instances, A.cursor, 'COUNT', A.page)
local found = {page[1]}
for i = 1, #page[2], 2 do
  local id, stored = page[2][i], page[2][i + 1]
  local seen = tonumber(string.sub(stored, 1, 13))
  if seen and math.abs(now() - seen) <= tonumber(A.kept) and #stored <= tonumber(A.longest) then
    found[#found + 1] = id
    found[#found + 1] = stored
  end
end
return found
