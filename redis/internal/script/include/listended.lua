-- Adds the ids to the lists, once all else is done: one entry for each call and list. This is no
-- script: it stands in scripts instead of the comment that includes it.
if endedWell or endedBadly then
-- include addended.lua
  if endedWell and endedWell[1] then
    addEnded(K.ended[1], table.concat(endedWell, ' '), endedKeep)
  end
  if endedBadly and endedBadly[1] then
    addEnded(K.ended[2], table.concat(endedBadly, ' '), endedKeep)
  end
end
