-- Recognizes entries of lists. This is no script: it stands in scripts instead of the comment
-- that includes it.

-- 16 hexadecimal digits of what tells a stored run, or a dead letter, from others of its list: the
-- header with the id, and when it died
local function anchorOf(entry, isDead)
  local died = ''
  if isDead then
    local ok, size = pcall(struct.unpack, '>I4', entry, 14)
    died, entry = string.sub(entry, 1, 13), string.sub(entry, 18 + (ok and size or 0))
  end
  return string.sub(redis.sha1hex(died .. string.sub(entry, 1, 9 + (string.byte(entry, 9) or 0))), 1, 16)
end
