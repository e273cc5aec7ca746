-- Makes the store if there is none, and reads what it says about itself.
--
-- KEYS: the facts.  ARGV: form, item partitions, device partitions, 32 random bytes.
-- Returns {form, item partitions, device partitions, key, clean}.
if redis.call('HSETNX', KEYS[1], 'form', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'items', ARGV[2], 'devices', ARGV[3], 'key', ARGV[4], 'clean', 1)
end
return redis.call('HMGET', KEYS[1], 'form', 'items', 'devices', 'key', 'clean')
