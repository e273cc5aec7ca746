-- Says that a node is alive, for as long as a lease, by the clock of Redis.
--
-- KEYS: the nodes by the end of their leases, the run of each node, the highest item number given.
-- ARGV: node, its run (a name drawn for each start), milliseconds of the lease, the highest item number
--       that the node has heard of, how many are left out where Redis has lost data, which shows by that.
-- Returns the nodes that are alive, and that number; nothing where another run of that name is.
redis.replicate_commands() -- Redis 6 would not write after it has looked at the clock
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ends and tonumber(ends) > now and redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then
  return false
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - 86400000, 'LIMIT', 0, 8)) do
  redis.call('ZREM', KEYS[1], dead)
  redis.call('HDEL', KEYS[2], dead)
end
local number = tonumber(redis.call('GET', KEYS[3]) or 0)
if tonumber(ARGV[4]) > number then -- before a node that has heard of nothing takes any
  number = ARGV[4] + ARGV[5]
  redis.call('SET', KEYS[3], string.format('%d', number))
end
return {
  redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf'),
  number,
}
