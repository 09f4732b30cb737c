-- Names limits for the numbers that programs give. This is no script: it stands in scripts
-- instead of the comment that includes it.

-- the key of a limit with * in place of the digest of values, if it has one
local function stemOf(key)
  local rest, smooth = key, ''
  if string.sub(rest, -7) == '/smooth' then
    rest, smooth = string.sub(rest, 1, -8), '/smooth'
  end
  if string.sub(rest, -23, -23) == '/' and not string.find(rest, '/', -22, true) then
    rest = string.sub(rest, 1, -23) .. '*'
  end
  return rest .. smooth
end
