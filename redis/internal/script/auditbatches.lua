#!lua flags=allow-oom
-- Compares batches with the list of what is in flight, and repairs what differs: between the
-- auditor's look and this call all may have changed.
--
-- KEYS  inflight; then for each batch: the batch, and its bitmap of finished runs
-- ARGV  repair: '1' to repair, '0' to count only; then the "session:number" of each batch
-- Returns an array of
--       1. how many batches inflight does not list
--       2. how many batches inflight lists that are not there
--       3. how many bitmaps have no batch
-- include read.lua
local repair = A.repair == '1'
local unlisted, empty, alone = 0, 0, 0
for _ = 1, #ARGV - #A do
  local batch, done, name = nextKey(), nextKey(), nextArg()
  local held = redis.call('EXISTS', batch) == 1
  local listed = redis.call('SISMEMBER', K.inflight, name) == 1
  if held and not listed then
    unlisted = unlisted + 1
    if repair then
      redis.call('SADD', K.inflight, name)
    end
  elseif listed and not held then
    empty = empty + 1
    if repair then
      redis.call('SREM', K.inflight, name)
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
