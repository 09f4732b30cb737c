-- Whose turn it is, and what a limit allows. This is no script: it stands in
-- take.lua instead of the comment that includes it, behind waiting.lua. Two more keys:
--   starts  a sorted set, all scores 0: hash of a rate, instant of a start (16
--           digits, in µs since the epoch), number (16 digits); and for each rate
--           one of hash, 'p' and its longest time (16 digits, in µs)
--   rates   a sorted set: hash of a rate; score: when none of its starts counts
--           any more, in ms since the epoch
local function addRounds(self)
  local seconds, beyond = serverTime()
  local micros = seconds * 1000000 + beyond
  local present = now()
  local budget = 300 -- lines and runs to look at in one call
  local function digits(n)
    return string.format('%016.0f', math.max(n, 0))
  end

  -- nil when the limit has room; else true, or for a rate when it will have some
  local function closed(limit)
    if limit.per == 0 then
      return (tonumber(redis.call('HGET', K.running, limit.key)) or 0) >= limit.max or nil
    end
    local from = limit.hash .. digits(micros - limit.per + 1)
    local n = redis.call('ZLEXCOUNT', K.starts, '[' .. from, '(' .. limit.hash .. 'p')
    if n >= limit.max then
      -- Those to come were noted before the server's clock was put back: they count from now.
      local ahead = redis.call('ZRANGEBYLEX', K.starts, '[' .. limit.hash .. digits(micros + 1), '(' .. limit.hash .. 'p', 'LIMIT', 0, 500)
      for _, start in ipairs(ahead) do
        redis.call('ZADD', K.starts, 0, limit.hash .. digits(micros) .. string.sub(start, 33))
        redis.call('ZREM', K.starts, start)
      end
      local oldest = redis.call('ZRANGEBYLEX', K.starts, '[' .. from, '(' .. limit.hash .. 'p', 'LIMIT', n - limit.max, 1)[1]
      return math.ceil(((tonumber(string.sub(oldest, 17, 32)) or micros) + limit.per) / 1000)
    end
  end

  local function keepFor(key, ms)
    redis.call('PEXPIRE', key, string.format('%.0f', ms), 'NX')
    redis.call('PEXPIRE', key, string.format('%.0f', ms), 'GT')
  end

  -- counts a run that starts
  local function count(limit)
    if limit.per == 0 then
      redis.call('HINCRBY', K.running, limit.key, 1)
      return
    end
    local noted = self.first(K.starts, limit.hash, 'p')
    local per = noted and tonumber(string.sub(noted, 18)) or 0
    if per < limit.per then
      per = limit.per
      redis.call('ZADD', K.starts, 0, limit.hash .. 'p' .. digits(per))
      if noted then
        redis.call('ZREM', K.starts, noted)
      end
    end
    local number = digits(redis.call('HINCRBY', K.policy, 'started', 1))
    limit.start = limit.hash .. digits(micros) .. number
    redis.call('ZADD', K.starts, 0, limit.start)
    local old = redis.call('ZRANGEBYLEX', K.starts, '[' .. limit.hash, '(' .. limit.hash .. digits(micros - per), 'LIMIT', 0, 100)
    if #old > 0 then
      redis.call('ZREM', K.starts, unpack(old))
    end
    local ms = math.ceil(per / 1000)
    redis.call('ZADD', K.rates, string.format('%.0f', present + ms), limit.hash)
    keepFor(K.starts, ms)
    keepFor(K.rates, ms)
  end

  -- counts a run no more that did not start after all
  local function uncount(limit)
    if limit.per > 0 then
      redis.pcall('ZREM', K.starts, limit.start or '')
    elseif redis.pcall('HINCRBY', K.running, limit.key, -1) == 0 then
      redis.pcall('HDEL', K.running, limit.key)
    end
  end

  -- forgets the starts of rates that are idle
  local function sweep()
    for _, hash in ipairs(redis.call('ZRANGEBYSCORE', K.rates, '-inf', string.format('%.0f', present), 'LIMIT', 0, 3)) do
      local old = redis.call('ZRANGEBYLEX', K.starts, '[' .. hash, '(' .. hash .. '~', 'LIMIT', 0, 500)
      if #old > 0 then
        redis.call('ZREM', K.starts, unpack(old))
      end
      if #old < 500 then
        redis.call('ZREM', K.rates, hash)
      end
    end
  end

  local function lineOf(member)
    return string.sub(member, -49, -33) .. string.sub(member, -16)
  end

  self.promoted = {} -- lanes of which lines can be looked at now
  self.later = {} -- lanes of which lines wait for a rate

  -- has one line of each lane looked at that a limit holds back; returns true if it
  -- did not come to all lanes, for which the limit is left in recheck
  local function promote(hash)
    local group, lane = 'k' .. hash, 1
    while lane <= 6 do
      local turn = self.first(K.rounds, 'v' .. group, tostring(lane))
      if not turn then
        return
      end
      lane = tonumber(string.sub(turn, 19, 19))
      local value = lane and group .. lane .. string.sub(turn, -16)
      local member = value and #turn == 51 and self.first(K.rounds, value)
      local line = member and lineOf(member)
      local there = line and self.first(K.waiting, line)
      if there then
        self.list(line, 'r', string.sub(there, 34, 49), member)
        self.rotate(value, turn)
        self.promoted[lane] = true
        lane = lane + 1
      else
        if member then
          self.unlist(line, member) -- what was in it was removed
        elseif value and #turn == 51 then
          self.quit(value, turn)
        else
          redis.call('ZREM', K.rounds, turn) -- it is no member of rounds
          lane = 1
        end
        budget = budget - 1
        if budget <= 0 then
          redis.call('ZADD', K.recheck, 0, hash) -- the next call goes on
          return true
        end
      end
    end
  end

  -- looks at what has room now; returns whether there is more to look at
  function self.wake()
    sweep()
    local seen = tonumber(redis.call('HGET', K.policy, 'clock')) or 0
    local next = redis.call('ZRANGE', K.recheck, 0, 0, 'WITHSCORES')
    local per = next[1] and tonumber(next[2]) > present and self.first(K.starts, next[1], 'p')
    local latest = per and present + 1000 + (tonumber(string.sub(per, 18)) or 0) / 1000
    if seen > present + 1000 or latest and tonumber(next[2]) > latest then
      -- The server's clock was put back: what was to be looked at later than can be is now.
      for _, hash in ipairs(redis.call('ZRANGEBYSCORE', K.recheck, string.format('(%.0f', present), '+inf', 'LIMIT', 0, 1000)) do
        redis.call('ZADD', K.recheck, 0, hash)
      end
    end
    if math.abs(seen - present) > 1000 then
      redis.call('HSET', K.policy, 'clock', string.format('%.0f', present))
    end
    local due = redis.call('ZRANGEBYSCORE', K.recheck, '-inf', string.format('%.0f', present), 'LIMIT', 0, 100)
    for _, hash in ipairs(due) do
      if #hash ~= 16 or not promote(hash) then
        redis.call('ZREM', K.recheck, hash)
      end
    end
    return #due == 100
  end

  -- the first of a run's limits that keeps it from starting, nil if there is
  -- none, and of each limit what closed says
  local function closing(run)
    local by, at = nil, {}
    for i, limit in ipairs(run.limits) do
      at[i] = closed(limit)
      by = by or at[i] and limit
    end
    return by, at
  end

  -- counts a run no more at the first so many of its limits
  local function unbegin(run, n)
    for i = 1, n or #run.limits do
      if run.limits[i].counts then
        uncount(run.limits[i])
      end
    end
  end

  -- counts a run that starts at all of its limits, or at none
  local function begin(run)
    for i, limit in ipairs(run.limits) do
      local ok, failure = true, nil
      if limit.counts then
        ok, failure = pcall(count, limit)
      end
      if not ok then
        unbegin(run, i - 1)
        error(failure)
      end
    end
  end
  self.unbegin = unbegin

  -- has a rate looked at when it has room, if it holds back lines
  local function await(limit, at, lane)
    if limit.per > 0 and self.first(K.rounds, 'k' .. limit.hash) then
      redis.call('ZADD', K.recheck, string.format('%.0f', at), limit.hash)
      self.later[lane] = true
    end
  end

  -- Takes the first run of a line out if its limits allow it to start: put adds it
  -- where it goes, and unput takes it back. Aside adds it elsewhere and returns true
  -- if it is not to start at all, and unaside takes that back. Seen is the member
  -- of turns by which the line was come upon.
  function self.start(line, seen, put, unput, aside, unaside)
    budget = budget - 1
    local member = self.first(K.waiting, line)
    if not member then
      self.unlist(line, seen)
      return
    end
    local element = string.sub(member, 50)
    local run = self.read(element) or {limits = {}}
    local gone = aside and aside(element)
    local by, at
    if not gone then
      by, at = closing(run)
    end
    if by then
      self.list(line, 'k' .. by.hash, string.sub(member, 34, 49), seen)
    else
      if not gone then
        begin(run)
        local ok, failure = pcall(put, element)
        if not ok then
          unbegin(run)
          error(failure)
        end
      end
      must(function()
        if gone then
          unaside(element)
        else
          unput(element)
          unbegin(run)
        end
      end, 'ZREM', K.waiting, member)
      local next
      next, at = closing(run)
      local following = self.first(K.waiting, line)
      if following then
        self.list(line, next and 'k' .. next.hash or 'r', string.sub(following, 34, 49), seen)
      else
        self.unlist(line, seen)
      end
    end
    for i, limit in ipairs(run.limits) do
      if not at[i] then
        promote(limit.hash)
      else
        await(limit, at[i], tonumber(string.sub(line, 1, 1)))
      end
    end
  end

  -- Returns true if a run that comes from the ready list may start, which is counted
  -- then; else gather gives it a place behind those of its line.
  function self.come(lane, element, run, free, gather)
    budget = budget - 1
    local line = lane .. run.name
    if self.has(line) then
      gather(line, element)
      return false
    end
    local by, at = closing(run)
    if not by and free then
      begin(run)
      return true
    end
    gather(line, element, by and 'k' .. by.hash or 'r')
    for i, limit in ipairs(by and run.limits or {}) do
      if limit == by then
        await(limit, at[i], lane)
      end
    end
    return false
  end

  -- the line whose turn it is in a lane, and its member of rounds; nil when there is
  -- none or, as some wait in the ready list, it is theirs
  function self.turn(lane, plain)
    local without = 'r' .. lane .. self.none
    if plain then
      self.join(without)
    end
    while budget > 0 do
      local round = redis.call('ZRANGEBYLEX', K.rounds, '[vr' .. lane, '(vr' .. lane .. '~', 'LIMIT', 0, 2)
      if #round == 0 then
        local member = self.first(K.rounds, 'r' .. lane)
        if not member then
          return
        elseif #member == 50 then
          self.rejoin(string.sub(member, 1, 18))
        else
          redis.call('ZREM', K.rounds, member) -- it is no member of rounds
        end
      else
        local value = 'r' .. lane .. string.sub(round[1], -16)
        local member = self.first(K.rounds, value)
        if #round > 1 then
          self.rotate(value, round[1])
        end
        if member then
          return lineOf(member), member
        elseif plain and value == without then
          return
        end
        self.quit(value, round[1])
      end
      budget = budget - 1
    end
  end

  -- whether a line of the lane can be looked at
  function self.waits(lane)
    return self.first(K.rounds, 'r' .. lane) ~= nil
  end

  -- when to look at what limits hold back, in ms; nil when they hold back nothing
  function self.due()
    local next = redis.call('ZRANGE', K.recheck, 0, 0, 'WITHSCORES')[2]
    return next and math.min(tonumber(next), 9999999999999)
  end

  -- how much more may be looked at
  function self.budget()
    return budget
  end

  return self
end

local rounds -- made when it is needed first

-- returns the functions of waiting, and those for their turns
local function inTurn()
  rounds = rounds or addRounds(waiting())
  return rounds
end
