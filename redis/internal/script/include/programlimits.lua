-- Has the numbers of limits from the program that takes. This is no script: it stands in
-- take.lua instead of the comment that includes it, behind backlogs.lua and limitstem.lua. One
-- more key:
--
--   limits  a hash: stem of a limit → version of the program whose number holds, when a take
--           noted it, in ms since the epoch, the maximum, the time in µs, the session

-- Has read of newBacklogs return limits with the numbers that hold.
local function useProgramLimits(self)
  local present = now()
  local words = {}
  for word in string.gmatch(A.limits or '', '%S+') do
    words[#words + 1] = word
  end
  local version = tonumber(words[1]) or 0
  local own, stems = {}, {}
  for i = 2, #words - 2, 3 do
    stems[#stems + 1] = words[i]
    own[words[i]] = {max = tonumber(words[i + 1]), per = tonumber(words[i + 2])}
  end

  local function parse(noted)
    if type(noted) ~= 'string' then
      return
    end
    local of, at, max, per, session = string.match(noted, '^(%d+) (%d+) (%d+) (%d+) (%S+)$')
    if max and tonumber(max) >= 1 then
      return {version = tonumber(of), at = tonumber(at), max = tonumber(max), per = tonumber(per), session = session}
    end
  end

  -- whether a session that noted its limits is still at work here
  local function atWork(noted)
    local lease = redis.pcall('ZSCORE', K.leases, noted.session)
    return math.abs(present - noted.at) < 60000 or type(lease) == 'string' and tonumber(lease) > present
  end

  local inForce, changed = {}, false -- stem → its numbers; false: those that the run brings
  local function choose(stem, noted)
    local mine = own[stem]
    noted = parse(noted)
    if noted and (not mine or noted.version > version) and atWork(noted) then
      inForce[stem] = noted
      return
    end
    inForce[stem] = mine or false
    if mine and not (noted and noted.version == version and noted.max == mine.max and noted.per == mine.per and math.abs(present - noted.at) < 10000) then
      redis.pcall('HSET', K.limits, stem, string.format('%.0f %.0f %.0f %.0f %s', version, present, mine.max, mine.per, A.session))
      redis.pcall('PEXPIRE', K.limits, 600000)
      changed = changed or not noted or noted.max ~= mine.max or noted.per ~= mine.per
    end
  end

  for from = 1, #stems, 500 do
    local page = {unpack(stems, from, math.min(from + 499, #stems))}
    local noted = redis.pcall('HMGET', K.limits, unpack(page))
    for i, stem in ipairs(page) do
      choose(stem, not noted.err and noted[i])
    end
  end
  if changed then -- a limit may have room by its new number
    for _, member in ipairs(redis.call('ZRANGEBYLEX', K.rounds, '[k', '(k~', 'LIMIT', 0, 1000)) do
      redis.call('ZADD', K.recheck, 0, string.sub(member, 2, 17))
    end
  end

  local read, applied = self.read, {}
  function self.read(stored)
    local run = read(stored)
    if run and not applied[run] then
      applied[run] = true
      for _, limit in ipairs(run.limits) do
        local stem = stemOf(limit.key)
        if inForce[stem] == nil then
          choose(stem, redis.pcall('HGET', K.limits, stem))
        end
        local numbers = inForce[stem]
        if numbers and (numbers.per > 0) == (limit.per > 0) then
          limit.max, limit.per = numbers.max, numbers.per
        end
      end
    end
    return run
  end
  return self
end
