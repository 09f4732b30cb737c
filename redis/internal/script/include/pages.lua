-- Reads pages of entries, which can be large. This is no script: it stands in scripts instead
-- of the comment that includes it.

-- Calls use for the entries from one index on to another of a list, or of a sorted set, in steps
-- of 1 or -1. It reads few at a time until it knows how large they are, and stops once it has read
-- so many bytes, or use returns true. Returns the index at which to go on.
local function readEntries(command, key, from, to, step, bytes, use)
  local read, size = 0, 1
  while (to - from) * step >= 0 and read < bytes do
    local n = math.min(size, (to - from) * step + 1)
    local page = redis.call(command, key, step > 0 and from or from - n + 1, step > 0 and from + n - 1 or from)
    local largest = 1
    for i = step > 0 and 1 or #page, step > 0 and #page or 1, step do
      read, largest = read + #page[i], math.max(largest, #page[i])
      from = from + step
      if use(page[i], from - step) then
        return from
      end
    end
    if #page < n then
      break
    end
    size = math.min(200, size * 8, math.max(1, math.floor((bytes - read) / largest)))
  end
  return from
end
