-- Takes feedback off the list; what was given last stays, should its answer be lost.
--
-- KEYS: the feedback, what was given last, the name of who took that, the count of what went unread.
-- ARGV: the read's own name, how many.
-- Returns {bodies, how many wait, how many ever went unread}.
if redis.call('GET', KEYS[3]) ~= ARGV[1] then
  redis.call('DEL', KEYS[2])
  for _, body in ipairs(redis.call('LPOP', KEYS[1], ARGV[2]) or {}) do
    redis.call('RPUSH', KEYS[2], body)
  end
  redis.call('SET', KEYS[3], ARGV[1])
end
return {
  redis.call('LRANGE', KEYS[2], 0, -1),
  redis.call('LLEN', KEYS[1]),
  tonumber(redis.call('GET', KEYS[4]) or 0),
}
