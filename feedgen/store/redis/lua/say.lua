-- Adds what one node says to the streams and to the feedback, once and in order.
--
-- KEYS: the number of the last call of this run, the count of words to all, the feedback, the count of
--       feedback that went unread, then the streams.
-- ARGV: the number of this call, seconds that what nobody reads is kept, how much feedback may wait,
--       then by threes: the index of a key, the length of that stream, a body.
if tonumber(redis.call('GET', KEYS[1]) or 0) >= tonumber(ARGV[1]) then
  return false -- an earlier attempt, whose answer was lost
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
for i = 4, #ARGV, 3 do
  local index, length, body = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  if index == 3 then
    redis.call('RPUSH', KEYS[3], body)
  elseif index == 5 then -- to all nodes, which see by the count whether they missed any
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', length, '*', 'c', redis.call('INCR', KEYS[2]), 'b', body)
  else
    redis.call('XADD', KEYS[index], 'MAXLEN', '~', length, '*', 'b', body)
    redis.call('EXPIRE', KEYS[index], ARGV[2])
  end
end
local beyond = redis.call('LLEN', KEYS[3]) - ARGV[3]
if beyond > 0 then
  redis.call('LTRIM', KEYS[3], beyond, -1)
  redis.call('INCRBY', KEYS[4], beyond)
end
return false
