-- Reads the keys and arguments behind those that have names, each once, in order.
-- This is no script: it stands in scripts instead of the comment that includes it.
local keysRead, argsRead = #K, #A

local function nextKey()
  keysRead = keysRead + 1
  return KEYS[keysRead]
end

local function nextArg()
  argsRead = argsRead + 1
  return ARGV[argsRead]
end
