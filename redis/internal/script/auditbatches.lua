#!lua flags=allow-oom
-- Compares batches with the list of what is in flight, and repairs what does not fit:
-- between the auditor's look and this call all may have changed.
--
-- KEYS  inflight; then for each batch it and its bitmap of finished runs
-- ARGV  repair, '1' to repair and '0' to count only; then the "session:number" of each batch
-- Returns how many batches are not in inflight, how many in inflight have no batch, how many
--       bitmaps have none.
-- include read.lua
local repair = A.repair == '1'
local unlisted, empty, alone = 0, 0, 0
for _ = 1, #ARGV - #A do
  local batch, done, member = nextKey(), nextKey(), nextArg()
  local held = redis.call('EXISTS', batch) == 1
  local listed = redis.call('SISMEMBER', K.inflight, member) == 1
  if held and not listed then
    unlisted = unlisted + 1
    if repair then
      redis.call('SADD', K.inflight, member)
    end
  elseif listed and not held then
    empty = empty + 1
    if repair then
      redis.call('SREM', K.inflight, member)
    end
  end
  if not held and redis.call('EXISTS', done) == 1 then
    alone = alone + 1
    if repair then
      redis.call('DEL', done)
    end
  end
end
return {unlisted, empty, alone}
