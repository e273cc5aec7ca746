-- Forgets an item of a store that is opened alone.
--
-- KEYS: the id's pointer, the record, the live set.  ARGV: n.
local held = redis.call('GET', KEYS[1])
if held and held:match('^%d+ (%d+) ') == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
return false
