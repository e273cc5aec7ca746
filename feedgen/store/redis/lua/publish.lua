-- Puts a value in the place of the one before; see SharedStore.publish.
--
-- KEYS: the value.  ARGV: the lease's token, the call's own name, the blob.
local kept = redis.call('HMGET', KEYS[1], 'token', 'write')
if kept[2] == ARGV[2] then
  return 1 -- an earlier attempt, whose answer was lost
end
if tonumber(ARGV[1]) < tonumber(kept[1] or 0) then
  return 0
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'write', ARGV[2], 'blob', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'number', 1)
return 1
