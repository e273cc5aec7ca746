-- Keeps an item out of a device's window for as long as any item can live.
--
-- KEYS: the device's dismissals (numbers by the time when they may be forgotten).
-- ARGV: n, now, seconds.
local now, seconds = tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. now)
redis.call('ZADD', KEYS[1], now + seconds, ARGV[1])
redis.call('EXPIRE', KEYS[1], seconds)
return false
