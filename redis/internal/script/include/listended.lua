-- Adds entries to the lists of ended runs, once all else is done. This is no script: it stands in
-- scripts instead of the comment that includes it.
if endedEntries or endedWell or endedBadly then
-- include addended.lua
  endedEntries = endedEntries or {}
  for _, ids in ipairs({endedWell or {}, endedBadly or {}}) do
    endedEntries[#endedEntries + 1] = ids[1] and endedEntry(table.concat(ids, ' '), endedKeep) or ''
  end
  for i, entry in ipairs(endedEntries) do
    if entry ~= '' then
      addEnded(K.ended[2 - i % 2], entry)
    end
  end
end
