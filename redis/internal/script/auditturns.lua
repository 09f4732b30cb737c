#!lua flags=allow-oom
-- Finds backlogs that no take would look at, up to 500 backlogs in one call.
--
-- KEYS  backlogs, rounds, policy, recheck
-- ARGV  repair: '1' to repair, '0' to count only; from: the backlog to begin behind, '' at
--       first
-- Returns an array of
--       1. how many there are
--       2. the last backlog that it came to, '' at the end
-- include backlogs.lua
local repair = A.repair == '1'
local all = backlogs()
local n, from = 0, A.from
for _ = 1, 500 do
  local entry = redis.call('ZRANGEBYLEX', K.backlogs, '(' .. from, '+', 'LIMIT', 0, 1)[1]
  if not entry then
    return {n, ''}
  end
  local backlog = string.sub(entry, 1, 33)
  local turn = redis.call('HGET', K.policy, 'l' .. backlog)
  local listed = turn and redis.call('ZSCORE', K.rounds, turn)
  local value = listed and string.sub(turn, 1, -33)
  local at = value and redis.call('HGET', K.policy, 't' .. value)
  listed = at and redis.call('ZSCORE', K.rounds, 'v' .. string.sub(value, 1, -17) .. at .. string.sub(value, -16))
  if not listed then
    n = n + 1
    if repair then
      all.forget(backlog)
      all.setState(backlog, 'r', all.numberOf(entry))
    end
  elseif repair and string.sub(turn, 1, 1) == 'k' then
    redis.call('ZADD', K.recheck, 'NX', 0, string.sub(turn, 2, 17)) -- if nobody is about to
  end
  from = backlog .. '~'
end
return {n, from}
