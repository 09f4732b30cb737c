#!lua flags=no-writes
-- Reads the ids of runs that have ended, of each list the latest first.
--
-- KEYS  lists
-- ARGV  last: the id that was read last, '' to begin; at: index of its entry then. Others add
--       entries at the head, so the entry is there or behind; if it is not, it was trimmed
--       most: how many ids of a list are enough; bytes: reads no further list, nor further in one,
--       once it has read so many
-- Returns a list of, for each list, an array of
--       1. index of the last entry that was read
--       2. how many entries are behind it
--       3. entries: when the last of its records expires, and ids, separated by spaces, of which
--          the last ended last; the first entry is the one with the last id
--       or of a list that cannot be read the error. It is shorter than KEYS if not all were read.
local lists, bytes = {}, tonumber(A.bytes)

-- returns the index of the entry that has the last id, or the length of the list
local function find(key, length)
  for from = tonumber(A.at), length - 1, 100 do
    for i, entry in ipairs(redis.call('LRANGE', key, from, from + 99)) do
      if string.find(entry .. ' ', ' ' .. A.last .. ' ', 1, true) then
        return from + i - 1
      end
    end
  end
  return length
end

local function read(key)
  local length, found, n = redis.call('LLEN', key), {}, 0
  local at = A.last == '' and 0 or find(key, length)
  while n < tonumber(A.most) and bytes > 0 and at < length do
    for _, entry in ipairs(redis.call('LRANGE', key, at, at + 7)) do
      found[#found + 1] = entry
      bytes, at = bytes - #entry, at + 1
      n = n + select(2, string.gsub(entry, ' ', ''))
    end
  end
  return {at - 1, length - at, found}
end

for i, key in ipairs(KEYS) do
  if bytes <= 0 and i > 1 then
    break
  end
  local ok, reply = pcall(read, key)
  lists[i] = not ok and (type(reply) == 'table' and reply.err or tostring(reply)) or reply
end
return lists
