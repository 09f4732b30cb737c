-- Adds ids, separated by spaces, to a list of runs that have ended, of which the records are kept
-- for so many ms. A list that cannot be written only lacks them. It expires after its records, and
-- is trimmed now and then. This is no script: it stands in scripts instead of the comment that
-- includes it.
local function addEnded(key, ids, keep)
  local length = redis.pcall('LPUSH', key, ids)
  if type(length) ~= 'number' then
    return
  end
  if length > 10000 and length % 16 == 0 then
    redis.pcall('LTRIM', key, 0, 9999)
  end
  local expires = redis.pcall('PTTL', key)
  if type(expires) == 'number' and expires < keep then
    redis.pcall('PEXPIRE', key, string.format('%.0f', 2 * keep)) -- not at each call
  end
end
