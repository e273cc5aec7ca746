-- Whether a claim still stands; if so it counts as made now. See SharedStore.still_held.
--
-- KEYS: the device.  ARGV: the claim's token.
redis.replicate_commands() -- Redis 6 would not write after it has looked at the clock
local kept = redis.call('HMGET', KEYS[1], 'token', 'holder')
if kept[1] ~= ARGV[1] or kept[2] == '' then
  return 0
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'held', string.format('%d', time[1] * 1000000 + time[2]))
return 1
