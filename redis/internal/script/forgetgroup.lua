#!lua flags=allow-oom
-- Forgets a group, and how its members ended.
--
-- KEYS  group
-- ARGV  token: of the entry of the run that awaits the group and was cancelled or lost, or '' if
--       the group was gathered
-- Returns 1, or 0 if the group stays: with a token, if it does not have this run (any more); else
-- if it has any run, which then awaits another group of this name.
local awaiting = redis.pcall('HGET', K.group, 'then')
local token = type(awaiting) == 'string' and string.sub(awaiting, 2, 17) or ''
if token ~= A.token then
  return 0
end
redis.call('DEL', K.group)
return 1
