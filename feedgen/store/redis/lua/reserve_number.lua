-- Never gives this item number to anybody.
--
-- KEYS: the highest number given.  ARGV: the number.
if tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
return false
