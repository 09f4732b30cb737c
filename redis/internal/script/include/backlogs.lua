-- The backlogs in which runs with limits or a fair value wait, and whose turn it is. This is
-- no script: it stands in scripts instead of the comment that includes it.
--
-- A backlog is the runs held back of one ready list, fair value and list of limits: the same
-- limits hold all of them back. Its name is the number of the ready list, 1 to 6, the hash of
-- the value and that of the limits, 33 characters. Its state is 'r', if its first run can be
-- looked at, else 'k' and the hash of the limit that holds this run back. The keys:
--
--   backlogs a sorted set, all scores 0: backlog, number (16 digits), stored run
--   rounds   a sorted set, all scores 0. For each backlog a member: state, ready list, hash
--            of the value, number of the first run, hash of the limits. And for each value
--            with backlogs of one state and ready list its turn: 'v', state, ready list,
--            number of the turn (16 digits), hash of the value
--   policy   a hash that is there while a run with limits may be in a ready list or a
--            backlog: l<backlog>: its member of rounds; t<state><ready list><value>: the
--            number of its turn; front, back, turn, started: the numbers given last; clock:
--            when takes last looked at backlogs, in ms since the epoch, within a second
--   recheck  a sorted set: hash of a limit; score: when to look at the backlogs that it
--            holds back, in ms since the epoch
--   running  a hash: a limit's key to how many runs with it are in flight
--
-- If a limit has room and holds back a backlog, then one of its other backlogs is in the
-- state 'r', or it is in recheck: a take that looks at a backlog passes the turn on (take.lua).
-- An error leaves each run where takes or recovery find it: a run is added where it goes
-- before it is removed where it was, and after all that is noted of it. Notes of backlogs may
-- be left over; the next script that finds them removes them.

-- include commands.lua

-- whether a run has limits or a fair value
local function hasPolicies(stored)
  return bit.band(string.byte(stored, 2) or 0, 8) == 8
end

-- In the functions below a value is its state, ready list and hash, as rounds has it. Seen is
-- the member of rounds that led to a backlog or a value: it goes if nothing stands for it.
local function newBacklogs()
  local self = {none = '0000000000000000'}

  -- the number and the stored run of an entry of backlogs, behind the backlog's name
  function self.numberOf(entry)
    return string.sub(entry, 34, 49)
  end

  function self.storedRunOf(entry)
    return string.sub(entry, 50)
  end

  function self.hash(text)
    return text == '' and self.none or string.sub(redis.sha1hex(text), 1, 16)
  end

  -- the first member from prefix .. from on that opens with the prefix
  function self.first(key, prefix, from)
    return redis.call('ZRANGEBYLEX', key, '[' .. prefix .. (from or ''), '(' .. prefix .. '~', 'LIMIT', 0, 1)[1]
  end

  -- what a stored run's extension says: its fair value and its limits; an error, or nil,
  -- if that breaks a rule of docs/wire.md
  local function decode(stored)
    local at = 12 + string.byte(stored, 9)
    local last = at - 1 + struct.unpack('>I2', stored, at - 2)
    local function text()
      local size = string.byte(stored, at)
      at = at + 1 + size
      return size <= 200 and string.sub(stored, at - size, at - 1)
    end
    local run = {fair = text(), limits = {}}
    local unique, n = text(), string.byte(stored, at)
    if not run.fair or not unique or n > 4 then
      return
    end
    local names, seen = {}, {}
    at = at + 1
    for i = 1, n do
      local limit = {key = text()}
      limit.max, limit.per = struct.unpack('>I8I8', stored, at)
      if not limit.key or limit.key == '' or limit.max < 1 or limit.max > 2 ^ 53 or limit.per > 2 ^ 53 then
        return
      end
      limit.hash = self.hash((limit.per > 0 and 'r' or 'c') .. limit.key)
      limit.counts = not seen[limit.hash] -- a key that stands twice counts once
      seen[limit.hash] = true
      names[i] = limit.hash .. string.sub(stored, at, at + 15)
      at = at + 16
      run.limits[i] = limit
    end
    if at ~= last + 1 or last > #stored then
      return
    end
    run.name = self.hash(run.fair) .. self.hash(table.concat(names)) -- of its backlog, without the ready list
    return run
  end

  local known = {} -- what was read, by the extension's bytes

  -- The same, nil if there is none, or none that can be read. Such a run has no limits here;
  -- its consumer makes a dead letter of it.
  function self.read(stored)
    if hasPolicies(stored) and #stored > 9 then
      local at = 10 + string.byte(stored, 9)
      local high, low = string.byte(stored, at, at + 1)
      local extension = low and string.sub(stored, at, at + 1 + high * 256 + low) or ''
      local run = known[extension]
      if not run then
        local ok
        ok, run = pcall(decode, stored)
        run = ok and run or nil
        known[extension] = run
      end
      return run
    end
  end

  local listed = {} -- backlogs that have a state, as far as that is known

  local function digits(n)
    return string.format('%016.0f', n)
  end

  -- the member of rounds by which a value has this turn
  local function inRound(value, turn)
    return 'v' .. string.sub(value, 1, -17) .. turn .. string.sub(value, -16)
  end

  local function enter(value)
    local turn = digits(redis.call('HINCRBY', K.policy, 'turn', 1))
    redis.call('ZADD', K.rounds, 0, inRound(value, turn))
    redis.call('HSET', K.policy, 't' .. value, turn)
  end

  -- adds a value to the end of the round of its state and ready list
  function self.join(value)
    if not redis.call('HGET', K.policy, 't' .. value) then
      enter(value)
    end
  end

  -- adds the value of a backlog that the round does not have
  function self.rejoin(value)
    enter(value)
  end

  -- forgets the turn of a value
  local function leave(value, turn, seen)
    if turn then
      redis.call('ZREM', K.rounds, inRound(value, turn))
    end
    if seen and (not turn or seen ~= inRound(value, turn)) then
      redis.call('ZREM', K.rounds, seen)
    end
  end

  -- removes a value from the round if it has no backlogs any more
  function self.quit(value, seen)
    if not self.first(K.rounds, value) then
      local turn = redis.call('HGET', K.policy, 't' .. value)
      redis.call('HDEL', K.policy, 't' .. value) -- first: what policy says is there has to be
      leave(value, turn, seen)
    end
  end

  -- moves a value to the end of the round, if it is there
  function self.rotate(value, seen)
    local turn = redis.call('HGET', K.policy, 't' .. value)
    if turn or self.first(K.rounds, value) then
      enter(value)
    end
    leave(value, turn, seen)
  end

  function self.has(backlog)
    listed[backlog] = listed[backlog] or redis.call('HGET', K.policy, 'l' .. backlog) and true
    return listed[backlog]
  end

  -- sets a backlog's state, and the number of its first run
  function self.setState(backlog, state, number, seen)
    local was = redis.call('HGET', K.policy, 'l' .. backlog)
    local value = state .. string.sub(backlog, 1, 17)
    local member = value .. number .. string.sub(backlog, 18)
    if seen and seen ~= was and seen ~= member then
      redis.call('ZREM', K.rounds, seen)
    end
    if was == member then
      return
    end
    local before = was and string.sub(was, 1, -33)
    if before ~= value then
      self.join(value)
    end
    redis.call('ZADD', K.rounds, 0, member)
    redis.call('HSET', K.policy, 'l' .. backlog, member)
    listed[backlog] = true
    if was then
      redis.call('ZREM', K.rounds, was)
      if before ~= value then
        self.quit(before)
      end
    end
  end

  -- removes a backlog that is empty from the rounds
  function self.forget(backlog, seen)
    listed[backlog] = nil
    local was = redis.call('HGET', K.policy, 'l' .. backlog)
    if seen and seen ~= was then
      redis.call('ZREM', K.rounds, seen)
      self.quit(string.sub(seen, 1, -33))
    end
    if was then
      redis.call('HDEL', K.policy, 'l' .. backlog)
      redis.call('ZREM', K.rounds, was)
      self.quit(string.sub(was, 1, -33))
    end
  end

  -- the first of so many numbers at the end of backlogs, or at their front
  local function numbers(n, front)
    local last = redis.call('HINCRBY', K.policy, front and 'front' or 'back', front and -n or n)
    if math.abs(last) > 4e15 then
      error('the numbers of backlogs in ' .. K.policy .. ' are used up')
    end
    return 5e15 + last - (front and 0 or n - 1)
  end

  -- Adds a run to its backlog, at the end or at the front, and returns its entry. A backlog
  -- that is new, or has a new front, gets the state, 'r' if none is given.
  function self.add(list, stored, run, front, state)
    local backlog, number = list .. run.name, digits(numbers(1, front))
    if front or not self.has(backlog) then
      self.setState(backlog, state or 'r', number)
    end
    redis.call('ZADD', K.backlogs, 0, backlog .. number .. stored)
    return backlog .. number .. stored
  end

  -- Returns a function that adds a stored run to the end of its backlog; the first run of a
  -- backlog needs the state. It returns also the entries to be stored then in backlogs, each
  -- behind its score.
  function self.gather(n)
    local next, entries = nil, {}
    return function(backlog, stored, state)
      next = next or numbers(n)
      local number = digits(next)
      if state then
        self.setState(backlog, state, number)
      end
      next = next + 1
      entries[#entries + 1] = 0
      entries[#entries + 1] = backlog .. number .. stored
    end, entries
  end

  local noted, looked = false, {}

  -- notes that runs with limits may be in a ready list
  function self.noteLimits()
    if not noted then
      redis.call('HINCRBY', K.policy, 'back', 0) -- which makes the key
      noted = true
    end
  end

  -- adds a run that is due now to its backlog or ready list; returns its entry if it is in a
  -- backlog
  function self.arrive(list, ready, stored)
    local run = self.read(stored)
    if run and run.fair ~= '' then
      if not looked[list] and redis.call('EXISTS', ready) == 1 then
        self.join('r' .. list .. self.none) -- they came before
      end
      looked[list] = true
      return self.add(list, stored, run)
    end
    self.noteLimits()
    redis.call('RPUSH', ready, stored)
  end

  -- puts a taken run back; returns its entry if it is in a backlog
  function self.putBack(list, ready, stored)
    local run = self.read(stored)
    if run then
      return self.add(list, stored, run, true)
    else
      redis.call('LPUSH', ready, stored)
    end
  end

  return self
end

local madeBacklogs -- made when it is needed first: most calls have no run with policies

-- returns the functions for runs with limits or a fair value
local function backlogs()
  madeBacklogs = madeBacklogs or newBacklogs()
  return madeBacklogs
end
