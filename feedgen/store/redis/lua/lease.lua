-- Takes or renews the lease of a task, by the clock of Redis; see SharedStore.lease.
--
-- KEYS: the lease.  ARGV: the run of the node that wants it, milliseconds.
-- Returns the token; nothing where another run has it.
redis.replicate_commands()
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = redis.call('HMGET', KEYS[1], 'holder', 'ends', 'token')
local token = tonumber(kept[3] or 0)
if kept[1] ~= ARGV[1] then
  if kept[2] and tonumber(kept[2]) > now then
    return false
  end
  -- By the clock, so that it is higher, too, where Redis has lost the last of them.
  token = math.max(token + 1, time[1] * 1000000 + time[2])
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'ends', now + ARGV[2], 'token', string.format('%d', token))
return token
