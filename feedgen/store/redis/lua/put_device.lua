-- Stores or removes a profile; see SharedStore.put_device.
--
-- KEYS: the device, its dismissals, the index of profiles, the count that versions are drawn from.
-- ARGV: device, "put" or "remove", the blob, the version it was made from ("*" any), the holder's token
--       ("" an operator's), 1 to let go of it, the write's own name, what the names of the sets of held
--       devices begin with.
-- Returns {"written", version}, {"conflict", version, blob} or {"fenced"}.
redis.replicate_commands() -- Redis 6 would not write after it has looked at the clock
-- Higher than all before, and by the clock, so that it is so, too, where Redis has lost the last of them.
local function next_serial(key)
  local time = redis.call('TIME')
  local serial = math.max(tonumber(redis.call('GET', key) or 0) + 1, time[1] * 1000000 + time[2])
  serial = string.format('%d', serial) -- below 2^53, so exact
  redis.call('SET', key, serial)
  return serial
end
local device, remove, blob, over, token = ARGV[1], ARGV[2] == 'remove', ARGV[3], ARGV[4], ARGV[5]
local kept = redis.call('HMGET', KEYS[1], 'version', 'token', 'holder', 'write', 'blob')
local version, holder = tonumber(kept[1] or 0), kept[3] or ''
if remove and not kept[1] and not kept[2] then
  redis.call('DEL', KEYS[2])
  return { 'written', 0 }
end
if kept[4] == ARGV[7] then
  return { 'written', version } -- an earlier attempt, whose answer was lost
end
if token ~= '' and token ~= kept[2] then
  return { 'fenced' }
end
if over ~= '*' and tonumber(over) ~= version then
  return { 'conflict', version, kept[5] }
end
if holder ~= '' and (remove or ARGV[6] == '1') then
  redis.call('SREM', ARGV[8] .. holder, device) -- of the same hash tag
end
if remove then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('ZREM', KEYS[3], device)
  return { 'written', 0 }
end
version = next_serial(KEYS[4])
redis.call('HSET', KEYS[1], 'version', version, 'blob', blob, 'write', ARGV[7])
if not kept[1] then
  redis.call('ZADD', KEYS[3], 0, device)
end
if ARGV[6] == '1' then
  redis.call('HSET', KEYS[1], 'holder', '', 'clean', '1')
end
return { 'written', tonumber(version) }
