-- Recognizes ticks. This is no script: it stands in scripts instead of the comment that
-- includes it.

-- Whether a field of ticks is one: 20 digits, of the years up to 2200, and the revision of
-- a schedule made at run time, '' for a task's.
local function isTick(text, revision)
  return #text == 20 + #revision and string.find(text, '^0%d+$') and text < '0729' and string.sub(text, 21) == revision
end
