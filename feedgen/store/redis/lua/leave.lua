-- Ends the lease of a node that stops.
--
-- KEYS: the nodes by the end of their leases, the run of each node.  ARGV: node, its run.
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return false
