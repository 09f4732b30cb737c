-- Adds ids, separated by spaces, to a list of runs that have ended, of which the records are kept
-- for so many ms. An entry opens with when the last of its records expires. A list that cannot be
-- written only lacks them. It expires after its records; now and then the oldest entries go whose
-- records have expired. This is no script: it stands in scripts behind clock.lua, instead of the
-- comment that includes it.

-- trims a list of so many entries
local function trimEnded(list, size)
  local expired = 0
  while expired < 32 and expired < size do
    local oldest = redis.call('LINDEX', list, -1 - expired)
    local expires = tonumber(string.match(oldest, '^%d+'))
    if expires and expires > now() then
      break
    end
    expired = expired + 1
  end
  local stay = math.min(size - expired, 10000)
  if stay < size then
    redis.call('LTRIM', list, 0, stay - 1)
  end
end

local function addEnded(list, ids, keep)
  local size = redis.pcall('LPUSH', list, string.format('%.0f ', now() + keep) .. ids)
  if type(size) ~= 'number' then
    return
  end
  if size % 16 == 0 then
    pcall(trimEnded, list, size)
  end
  local expires = redis.pcall('PTTL', list) -- at each call: the next one may be later than the list would last
  if type(expires) == 'number' and expires < keep then
    redis.pcall('PEXPIRE', list, string.format('%.0f', 2 * keep)) -- so that it is seldom sent
  end
end
