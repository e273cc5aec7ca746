-- Reads a published value, if its number is above the one given.
--
-- KEYS: the value.  ARGV: a number.
local number = tonumber(redis.call('HGET', KEYS[1], 'number') or 0)
if number <= tonumber(ARGV[1]) then
  return false
end
return { number, redis.call('HGET', KEYS[1], 'blob') }
