-- Gives a node a block of item numbers: the one returned is the last before it.
--
-- KEYS: the highest number given.
-- ARGV: the highest that the node has heard of, how many it takes, how many are left out where Redis has
--       lost data, which shows by the first two: other nodes may have been given some above.
local last, heard = tonumber(redis.call('GET', KEYS[1]) or 0), tonumber(ARGV[1])
if heard > last then
  last = heard + ARGV[3]
end
redis.call('SET', KEYS[1], string.format('%d', last + ARGV[2]))
return last
