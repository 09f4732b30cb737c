#!lua flags=no-writes
-- Looks whether groups still have the runs that await them. Such a run is in `then` of its group
-- until the last member has ended, and from that step on in the outbox, until it is queued.
--
-- KEYS  outbox; then the groups
-- ARGV  brief: '1' to look at less in one call; then for each group the token of the entry of the
--       outbox that its end adds
-- Returns the places, from 1, of the groups that are gone, are others, or have lost the run, and
-- whose entry is not in the outbox. It returns none if the outbox is too long for one call.
-- include read.lua
local most = A.brief == '1' and 1048576 or 16777216 -- bytes of the outbox that are looked at

-- whether a group has the run that awaits it
local function has(group, token)
  local fields = redis.pcall('HMGET', group, 'left', 'begun')
  if fields.err or not fields[1] then
    return false
  elseif fields[2] then
    return fields[2] == token and redis.call('HEXISTS', group, 'then') == 1
  end
  local entry = redis.call('HGET', group, 'then')
  return entry and string.sub(entry, 2, 17) == token
end

local wanted, some = {}, false
for place = 1, #KEYS - 1 do
  local group, token = nextKey(), nextArg()
  if not has(group, token) then
    wanted[token], some = place, true
  end
end
if not some then
  return {}
end
local length, read = redis.call('LLEN', K.outbox), 0
for at = 0, length - 1, 100 do
  for _, entry in ipairs(redis.call('LRANGE', K.outbox, at, at + 99)) do
    read = read + #entry
    if string.sub(entry, 1, 1) == '+' then
      wanted[string.sub(entry, 2, 17)] = nil
    end
  end
  if read > most then
    return {}
  end
end
local gone = {}
for _, place in pairs(wanted) do
  gone[#gone + 1] = place
end
return gone
