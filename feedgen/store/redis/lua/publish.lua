-- Puts a value in the place of the one before; see SharedStore.publish.
--
-- KEYS: the value.  ARGV: the lease's token, the call's own name, the blob.
redis.replicate_commands() -- Redis 6 would not write after it has looked at the clock
local kept = redis.call('HMGET', KEYS[1], 'token', 'write', 'number')
if kept[2] == ARGV[2] then
  return 1 -- an earlier attempt, whose answer was lost
end
if tonumber(ARGV[1]) < tonumber(kept[1] or 0) then
  return 0
end
-- By the clock, so that it rises, too, where Redis has lost the last ones: else nobody would look at it.
local time = redis.call('TIME')
local number = math.max(tonumber(kept[3] or 0) + 1, time[1] * 1000000 + time[2])
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'write', ARGV[2], 'blob', ARGV[3],
  'number', string.format('%d', number))
return 1
