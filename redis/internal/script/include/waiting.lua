-- The lines in which runs with limits or a fair value wait, and their turns. This
-- is no script: it stands in scripts instead of the comment that includes it.
--
-- A line is the waiting runs of one lane, fair value and list of limits; all of
-- them are held back by the same. Its name is the lane, the hash of the value
-- and that of the limits, 33 characters. The keys:
--   waiting a sorted set, all scores 0: line, number (16 digits), element
--   rounds  a sorted set, all scores 0. One member a line: its group, which is 'r'
--           when its first run can be looked at, else 'k' and the hash of the limit
--           that holds that back; lane, value, number of the first, limits. And for
--           the lines of one group, lane and value: 'v', group, lane, turn (16
--           digits), value
--   policy  a hash that is there while a run with limits may be in a ready list
--           or a line: l<line> its member of rounds; t<group><lane><value> its turn;
--           front, back, turn, started: the numbers last given; clock: when lines
--           were last looked at, within a second, in ms since the epoch
--   recheck a sorted set: hash of a limit; score: when to look at what it holds
--           back, in ms since the epoch
--   running a hash: limit's key to how many runs with it are in flight
-- A limit that has room and holds back a line has another among the lines of 'r',
-- or is in recheck: who looks at a line passes the turn on (take.lua).
-- An error in between leaves each run where takes or recovery find it: it is added
-- where it goes before it is removed where it was, behind all else that is noted of
-- it. What is only noted of lines may be left over, and goes when it is come upon.

-- include commands.lua

-- whether a run has limits or a fair value
local function hasPolicies(element)
  return bit.band(string.byte(element, 2) or 0, 8) == 8
end

local function newWaiting()
  local self = {none = '0000000000000000'}

  function self.hash(text)
    return text == '' and self.none or string.sub(redis.sha1hex(text), 1, 16)
  end

  -- the first member from prefix .. from on that opens with the prefix
  function self.first(key, prefix, from)
    return redis.call('ZRANGEBYLEX', key, '[' .. prefix .. (from or ''), '(' .. prefix .. '~', 'LIMIT', 0, 1)[1]
  end

  -- what an element's extension says: its fair value and its limits; an error, or nil,
  -- if that breaks a rule of docs/wire.md
  local function decode(element)
    local at = 12 + string.byte(element, 9)
    local last = at - 1 + struct.unpack('>I2', element, at - 2)
    local function text()
      local size = string.byte(element, at)
      at = at + 1 + size
      return size <= 200 and string.sub(element, at - size, at - 1)
    end
    local run = {fair = text(), limits = {}}
    local unique, n = text(), string.byte(element, at)
    if not run.fair or not unique or n > 4 then
      return
    end
    local names, seen = {}, {}
    at = at + 1
    for i = 1, n do
      local limit = {key = text()}
      limit.max, limit.per = struct.unpack('>I8I8', element, at)
      if not limit.key or limit.key == '' or limit.max < 1 or limit.max > 2 ^ 53 or limit.per > 2 ^ 53 then
        return
      end
      limit.hash = self.hash((limit.per > 0 and 'r' or 'c') .. limit.key)
      limit.counts = not seen[limit.hash] -- a key that stands twice counts once
      seen[limit.hash] = true
      names[i] = limit.hash .. string.sub(element, at, at + 15)
      at = at + 16
      run.limits[i] = limit
    end
    if at ~= last + 1 or last > #element then
      return
    end
    run.name = self.hash(run.fair) .. self.hash(table.concat(names)) -- of its line, without the lane
    return run
  end

  local known = {} -- what was read, by the extension's bytes

  -- the same, nil where there is none, or none that can be read: such a run has no
  -- limits here, and whoever takes it makes a dead letter of it
  function self.read(element)
    if hasPolicies(element) and #element > 9 then
      local at = 10 + string.byte(element, 9)
      local high, low = string.byte(element, at, at + 1)
      local extension = low and string.sub(element, at, at + 1 + high * 256 + low) or ''
      local run = known[extension]
      if not run then
        local ok
        ok, run = pcall(decode, element)
        run = ok and run or nil
        known[extension] = run
      end
      return run
    end
  end

  local listed = {} -- lines that are in a group, as far as that is known

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

  -- has a value of a group and lane join the end of the round
  function self.join(value)
    if not redis.call('HGET', K.policy, 't' .. value) then
      enter(value)
    end
  end

  -- has the first line of a lane, of which the round knows nothing, be in it
  function self.rejoin(value)
    enter(value)
  end

  -- forgets the turn that a value had, and the member of rounds by which it was come
  -- upon
  local function leave(value, turn, seen)
    if turn then
      redis.call('ZREM', K.rounds, inRound(value, turn))
    end
    if seen and (not turn or seen ~= inRound(value, turn)) then
      redis.call('ZREM', K.rounds, seen)
    end
  end

  -- takes a value out of the round that has no lines any more
  function self.quit(value, seen)
    if not self.first(K.rounds, value) then
      local turn = redis.call('HGET', K.policy, 't' .. value)
      redis.call('HDEL', K.policy, 't' .. value) -- first: what policy says is there has to be
      leave(value, turn, seen)
    end
  end

  -- has a value go to the end of the round, if it is in it
  function self.rotate(value, seen)
    local turn = redis.call('HGET', K.policy, 't' .. value)
    if turn or self.first(K.rounds, value) then
      enter(value)
    end
    leave(value, turn, seen)
  end

  function self.has(line)
    listed[line] = listed[line] or redis.call('HGET', K.policy, 'l' .. line) and true
    return listed[line]
  end

  -- puts a line into a group, by the number of its first run; seen is the member of
  -- rounds by which it was come upon
  function self.list(line, group, number, seen)
    local was = redis.call('HGET', K.policy, 'l' .. line)
    local value = group .. string.sub(line, 1, 17)
    local member = value .. number .. string.sub(line, 18)
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
    redis.call('HSET', K.policy, 'l' .. line, member)
    listed[line] = true
    if was then
      redis.call('ZREM', K.rounds, was)
      if before ~= value then
        self.quit(before)
      end
    end
  end

  function self.unlist(line, seen)
    listed[line] = nil
    local was = redis.call('HGET', K.policy, 'l' .. line)
    if seen and seen ~= was then
      redis.call('ZREM', K.rounds, seen)
      self.quit(string.sub(seen, 1, -33))
    end
    if was then
      redis.call('HDEL', K.policy, 'l' .. line)
      redis.call('ZREM', K.rounds, was)
      self.quit(string.sub(was, 1, -33))
    end
  end

  -- the first of so many numbers at the end of lines, or at their front
  local function numbers(n, front)
    local last = redis.call('HINCRBY', K.policy, front and 'front' or 'back', front and -n or n)
    if math.abs(last) > 4e15 then
      error('the numbers of lines in ' .. K.policy .. ' are used up')
    end
    return 5e15 + last - (front and 0 or n - 1)
  end

  -- puts a run into its line, at its end or its front; one that is new, or has
  -- another front, into the group, or that of lines that can be looked at. Returns
  -- its entry.
  function self.file(lane, element, run, front, group)
    local line, number = lane .. run.name, digits(numbers(1, front))
    if front or not self.has(line) then
      self.list(line, group or 'r', number)
    end
    redis.call('ZADD', K.waiting, 0, line .. number .. element)
    return line .. number .. element
  end

  -- returns a function that gives an element a place at the end of its line, for which
  -- the group is needed if it is the line's first; and the entries that are to be stored
  -- then, their scores before each
  function self.gather(n)
    local next, entries = nil, {}
    return function(line, element, group)
      next = next or numbers(n)
      local number = digits(next)
      if group then
        self.list(line, group, number)
      end
      next = next + 1
      entries[#entries + 1] = 0
      entries[#entries + 1] = line .. number .. element
    end, entries
  end

  local marked, looked = false, {}

  -- notes that runs with limits may be in a ready list
  function self.mark()
    if not marked then
      redis.call('HINCRBY', K.policy, 'back', 0) -- which makes it, should it not be there
      marked = true
    end
  end

  -- has a run wait that is due now; returns its entry if it is in a line
  function self.arrive(lane, ready, element)
    local run = self.read(element)
    if run and run.fair ~= '' then
      if not looked[lane] and redis.call('EXISTS', ready) == 1 then
        self.join('r' .. lane .. self.none) -- they came before
      end
      looked[lane] = true
      return self.file(lane, element, run)
    end
    self.mark()
    redis.call('RPUSH', ready, element)
  end

  -- puts a run back that was taken; returns its entry if it is in a line
  function self.back(lane, ready, element)
    local run = self.read(element)
    if run then
      return self.file(lane, element, run, true)
    else
      redis.call('LPUSH', ready, element)
    end
  end

  return self
end

local waitingRuns -- made when it is needed first: most calls have no run with policies

-- returns the functions for runs with limits or a fair value
local function waiting()
  waitingRuns = waitingRuns or newWaiting()
  return waitingRuns
end
