-- Says to which ready list a run belongs. This is no script: it stands in scripts instead
-- of the comment that includes it.

-- the ready list that a stored run's header names, 1 to 6 as in K.ready; nil if the header
-- cannot be read
local function listOf(stored)
  local version, _, kind, priority = string.byte(stored, 1, 4)
  if version == 1 and priority and kind <= 1 and priority <= 2 and #stored > 9 then
    return kind * 3 + 3 - priority
  end
end

-- the kind of a ready list's runs, as in K.idle and K.wake: 1 io, 2 cpu
local function kindOf(list)
  return list <= 3 and 1 or 2
end
