#!lua
-- Reads records of runs in a state.
--
-- KEYS  records
-- ARGV  letter: of the state; bytes: reads no more once it has read so many
-- Returns a list of, for each record, the record, '' if the run is not in the state, or a number
--       if the key is no record. The list is shorter than KEYS if not all were read.
local found, bytes = {}, tonumber(A.bytes)
for i, key in ipairs(KEYS) do
  if bytes <= 0 then
    break
  end
  local letter = redis.pcall('GETRANGE', key, 0, 0)
  if type(letter) ~= 'string' then
    found[i] = 0
  elseif letter ~= A.letter then
    found[i] = ''
  else
    found[i] = redis.call('GET', key)
    bytes = bytes - #found[i]
  end
end
return found
