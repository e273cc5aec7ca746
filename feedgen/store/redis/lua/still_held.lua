-- Whether a claim still stands; if so it counts as made now. See SharedStore.still_held.
--
-- KEYS: the device.  ARGV: the claim's token.
-- Returns for how many microseconds, by this server's clock, -1 if it does not.
redis.replicate_commands() -- Redis 6 would not write after it has looked at the clock
local kept = redis.call('HMGET', KEYS[1], 'token', 'holder')
if kept[1] ~= ARGV[1] or kept[2] == '' then
  return -1
end
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
redis.call('HSET', KEYS[1], 'held', string.format('%d', clock))
return math.max(clock - tonumber(ARGV[1]), 0) -- a token is the time of its claim, or ahead of it
