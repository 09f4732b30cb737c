-- Adds an entry to a list of runs that have ended: when the last of their records expires, in ms,
-- and their ids, all separated by spaces. A list that cannot be written only lacks them. It
-- expires after its records; now and then the oldest entries go whose records have expired. This
-- is no script: it stands in scripts behind clock.lua, instead of the comment that includes it.

-- the entry of ids whose records are kept for so many ms
local function endedEntry(ids, keep)
  return string.format('%.0f ', now() + keep) .. ids
end

local function expiryOf(entry)
  return tonumber(string.match(entry, '^%d+'))
end

-- trims a list of so many entries
local function trimEnded(key, size)
  local expired = 0
  while expired < 32 and expired < size do
    local expires = expiryOf(redis.call('LINDEX', key, -1 - expired))
    if expires and expires > now() then
      break
    end
    expired = expired + 1
  end
  local stay = math.min(size - expired, 10000)
  if stay < size then
    redis.call('LTRIM', key, 0, stay - 1)
  end
end

-- Most calls need one command for a list: each of the first entries, and then a sixteenth of them,
-- sees to it that the list outlives its records.
local function addEnded(key, entry)
  local size = redis.pcall('LPUSH', key, entry)
  if type(size) ~= 'number' or size > 16 and size % 16 > 0 then
    return
  end
  if size % 16 == 0 then
    pcall(trimEnded, key, size)
  end
  local keep, expires = (expiryOf(entry) or 0) - now(), redis.pcall('PTTL', key)
  if type(expires) == 'number' and expires < keep then
    redis.pcall('PEXPIRE', key, string.format('%.0f', 2 * keep)) -- not at each call
  end
end
