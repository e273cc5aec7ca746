-- Gives a node a block of item numbers: the one returned is the last before it.
--
-- KEYS: the highest number given, the server that gave it, the last call of this run and what it was given.
-- ARGV: the highest that the node has heard of, how many it takes, how many are left out where Redis may
--       have lost data, the call's own name, seconds that this is remembered.
--
-- Lost data shows by a node that has heard of more. What no node has heard of does not show: blocks that
-- others were given in the last moment before a server died, and that the replica in its place, or its own
-- disk, knows nothing of. So another server, and a run of it, never goes on where the one before was.
local given = redis.call('GET', KEYS[3])
if given then
  local name, last = given:match('^(%S+) (%d+)$')
  if name == ARGV[4] then
    return tonumber(last) -- an earlier attempt, whose answer was lost
  end
end
local last, heard = tonumber(redis.call('GET', KEYS[1]) or 0), tonumber(ARGV[1])
local server, before = redis.call('INFO', 'server'):match('run_id:(%x+)'), redis.call('GET', KEYS[2])
if heard > last or (before and before ~= server) then
  last = math.max(last, heard) + ARGV[3]
end
redis.call('SET', KEYS[1], string.format('%d', last + ARGV[2]))
redis.call('SET', KEYS[2], server)
redis.call('SET', KEYS[3], string.format('%s %d', ARGV[4], last), 'EX', ARGV[5])
return last
