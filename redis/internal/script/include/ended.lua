-- What scripts note of runs that have ended, for the lists that searches read: listended.lua adds
-- it. This is no script: it stands in scripts instead of the comment that includes it. Without
-- records it makes no function and no table: each would cost every call.
local endedWell, endedBadly -- ids of successes and of failures; a text joined at each would copy it
local endedKeep = 0 -- the longest time in ms that a record of them is kept
