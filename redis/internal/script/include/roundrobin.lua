-- Chooses the backlog whose turn it is, and counts at limits. This is no script: it stands in
-- take.lua instead of the comment that includes it, behind backlogs.lua. Two more keys:
--
--   starts  a sorted set, all scores 0. For each start a member: hash of the rate, instant
--           (16 digits, in µs since the epoch), number (16 digits). For each rate a
--           member: hash, 'p', the longest time of the rate (16 digits, in µs)
--   rates   a sorted set: hash of a rate; score: from when on none of its starts counts,
--           in ms since the epoch
local function addRounds(self)
  local seconds, beyond = serverTime()
  local micros = seconds * 1000000 + beyond
  local present = now()
  local budget = 300 -- backlogs and runs to look at in one call
  local function digits(n)
    return string.format('%016.0f', math.max(n, 0))
  end

  -- Returns nil if the limit has room. Otherwise it returns true; for a rate, when there will
  -- be room.
  local function closed(limit)
    if limit.per == 0 then
      return (tonumber(redis.call('HGET', K.running, limit.key)) or 0) >= limit.max or nil
    end
    local from = limit.hash .. digits(micros - limit.per + 1)
    local n = redis.call('ZLEXCOUNT', K.starts, '[' .. from, '(' .. limit.hash .. 'p')
    if n >= limit.max then
      -- Starts in the future were noted before the server's clock was put back. They count as
      -- starts of now.
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

  -- takes back count, for a run that did not start after all
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

  local function backlogOf(member)
    return string.sub(member, -49, -33) .. string.sub(member, -16)
  end

  self.promoted = {} -- ready lists with backlogs that can be looked at now
  self.later = {} -- ready lists with backlogs that wait for a rate

  -- Opens one backlog of each ready list that a limit holds back. Returns true if some ready
  -- lists are left, for which the limit stays in recheck.
  local function promote(hash)
    local state, list = 'k' .. hash, 1
    while list <= 6 do
      local turn = self.first(K.rounds, 'v' .. state, tostring(list))
      if not turn then
        return
      end
      list = tonumber(string.sub(turn, 19, 19))
      local value = list and state .. list .. string.sub(turn, -16)
      local member = value and #turn == 51 and self.first(K.rounds, value)
      local backlog = member and backlogOf(member)
      local entry = backlog and self.first(K.backlogs, backlog)
      if entry then
        self.setState(backlog, 'r', self.numberOf(entry), member)
        self.rotate(value, turn)
        self.promoted[list] = true
        list = list + 1
      else
        if member then
          self.forget(backlog, member) -- its runs were removed
        elseif value and #turn == 51 then
          self.quit(value, turn)
        else
          redis.call('ZREM', K.rounds, turn) -- it is no member of rounds
          list = 1
        end
        budget = budget - 1
        if budget <= 0 then
          redis.call('ZADD', K.recheck, 0, hash) -- the next take continues
          return true
        end
      end
    end
  end

  -- promotes backlogs whose limits have room now; returns whether there are more
  function self.recheck()
    sweep()
    local seen = tonumber(redis.call('HGET', K.policy, 'clock')) or 0
    local next = redis.call('ZRANGE', K.recheck, 0, 0, 'WITHSCORES')
    local per = next[1] and tonumber(next[2]) > present and self.first(K.starts, next[1], 'p')
    local latest = per and present + 1000 + (tonumber(string.sub(per, 18)) or 0) / 1000
    if seen > present + 1000 or latest and tonumber(next[2]) > latest then
      -- The server's clock was put back: limits with a recheck later than can be are due now.
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

  -- the first of a run's limits that keeps it from starting, nil for none; and of each limit
  -- the value of closed
  local function closing(run)
    local by, at = nil, {}
    for i, limit in ipairs(run.limits) do
      at[i] = closed(limit)
      by = by or at[i] and limit
    end
    return by, at
  end

  -- counts a run no more at its first n limits, or at all
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

  -- notes when a rate that holds back backlogs will have room
  local function recheckRate(limit, at, list)
    if limit.per > 0 and self.first(K.rounds, 'k' .. limit.hash) then
      redis.call('ZADD', K.recheck, string.format('%.0f', at), limit.hash)
      self.later[list] = true
    end
  end

  -- Takes the first run out of a backlog if its limits allow it to start: put adds it
  -- where it goes, and unput undoes that. If its task is disabled, defer adds it elsewhere
  -- and returns true, and undefer undoes that. Then it passes the turn on to another backlog
  -- of each limit that has room.
  function self.startFirst(backlog, seen, put, unput, defer, undefer)
    budget = budget - 1
    local entry = self.first(K.backlogs, backlog)
    if not entry then
      self.forget(backlog, seen)
      return
    end
    local stored = self.storedRunOf(entry)
    local run = self.read(stored) or {limits = {}}
    local deferred = defer and defer(stored)
    local by, at
    if not deferred then
      by, at = closing(run)
    end
    if by then
      self.setState(backlog, 'k' .. by.hash, self.numberOf(entry), seen)
    else
      if not deferred then
        begin(run)
        local ok, failure = pcall(put, stored)
        if not ok then
          unbegin(run)
          error(failure)
        end
      end
      must(function()
        if deferred then
          undefer(stored)
        else
          unput(stored)
          unbegin(run)
        end
      end, 'ZREM', K.backlogs, entry)
      local next
      next, at = closing(run)
      local following = self.first(K.backlogs, backlog)
      if following then
        self.setState(backlog, next and 'k' .. next.hash or 'r', self.numberOf(following), seen)
      else
        self.forget(backlog, seen)
      end
    end
    for i, limit in ipairs(run.limits) do
      if not at[i] then
        promote(limit.hash)
      else
        recheckRate(limit, at[i], tonumber(string.sub(backlog, 1, 1)))
      end
    end
  end

  -- Returns true if a run of the ready list may start, and counts it then. Else gather adds
  -- it to the end of its backlog.
  function self.startOrWait(list, stored, run, free, gather)
    budget = budget - 1
    local backlog = list .. run.name
    if self.has(backlog) then
      gather(backlog, stored)
      return false
    end
    local by, at = closing(run)
    if not by and free then
      begin(run)
      return true
    end
    gather(backlog, stored, by and 'k' .. by.hash or 'r')
    for i, limit in ipairs(by and run.limits or {}) do
      if limit == by then
        recheckRate(limit, at[i], list)
      end
    end
    return false
  end

  -- the backlog of a ready list whose turn it is, and its member of rounds; nil if there is
  -- none, or if it is the turn of the runs in the list itself: plain says that there are some
  function self.nextBacklog(list, plain)
    local without = 'r' .. list .. self.none
    if plain then
      self.join(without)
    end
    while budget > 0 do
      local round = redis.call('ZRANGEBYLEX', K.rounds, '[vr' .. list, '(vr' .. list .. '~', 'LIMIT', 0, 2)
      if #round == 0 then
        local member = self.first(K.rounds, 'r' .. list)
        if not member then
          return
        elseif #member == 50 then
          self.rejoin(string.sub(member, 1, 18))
        else
          redis.call('ZREM', K.rounds, member) -- it is no member of rounds
        end
      else
        local value = 'r' .. list .. string.sub(round[1], -16)
        local member = self.first(K.rounds, value)
        if #round > 1 then
          self.rotate(value, round[1])
        end
        if member then
          return backlogOf(member), member
        elseif plain and value == without then
          return
        end
        self.quit(value, round[1])
      end
      budget = budget - 1
    end
  end

  -- whether a backlog of the ready list can be looked at
  function self.hasOpen(list)
    return self.first(K.rounds, 'r' .. list) ~= nil
  end

  -- when to recheck limits, in ms since the epoch; nil if they hold back nothing
  function self.recheckAt()
    local next = redis.call('ZRANGE', K.recheck, 0, 0, 'WITHSCORES')[2]
    return next and math.min(tonumber(next), 9999999999999)
  end

  -- how many more backlogs and runs may be looked at
  function self.budget()
    return budget
  end

  return self
end

local rounds -- made when it is needed first

-- returns the functions of backlogs(), and those of the turns
local function inTurn()
  rounds = rounds or addRounds(useProgramLimits(backlogs()))
  return rounds
end
