-- Executes commands with what they need around them. This is no script: it stands in
-- scripts instead of the comment that includes it.

-- returns the reply of a command; if that fails, undo takes back what was done for it
local function must(undo, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    undo()
    error(reply)
  end
  return reply
end

-- calls a command with as many members as there are, some thousand at a time
local function each(call, command, key, members)
  for i = 1, #members, 4000 do
    call(command, key, unpack(members, i, math.min(i + 3999, #members)))
  end
end
