-- Adds the ids to a list, once all else is done: one entry for each call. A list that cannot be
-- written only lacks them. One command is enough for most calls: a list is trimmed now and then,
-- and its expiry, which is later than that of its records, is seldom looked at. This is no script: it
-- stands in scripts instead of the comment that includes it.
for i = 1, 2 do
  local ids = i == 1 and endedWell or i == 2 and endedBadly
  local listed = ids and redis.pcall('LPUSH', K.ended[i], ids)
  if type(listed) == 'number' and (listed == 1 or listed % 16 == 0) then
    if listed > 10000 then
      redis.pcall('LTRIM', K.ended[i], 0, 9999)
    end
    local expires = redis.pcall('PTTL', K.ended[i])
    if type(expires) == 'number' and expires < endedKeep then
      redis.pcall('PEXPIRE', K.ended[i], string.format('%.0f', 2 * endedKeep))
    end
  end
end
