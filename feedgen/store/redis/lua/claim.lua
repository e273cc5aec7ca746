-- Makes a node the holder of a device; see SharedStore.claim.
--
-- KEYS: the device, its dismissals, the set of devices that the node holds in this partition, the count
--       that tokens and versions are drawn from.
-- ARGV: node, device, the claim's own name (its run of the node, a dot, a number), the nodes that are alive
--       as ",a,b,", 1 to pass by one of these, now, where the name of a set of held devices ends and that of
--       a node begins, microseconds that whoever wants the device has waited.
-- Returns {0, holder} where one that is alive has it; {2, ago} where another run has claimed it since; else
-- {1, token, version, blob, clean, the holder before, its dismissals, ago}. "ago" is for how many
-- microseconds another run had it claimed, by this server's clock alone, or -1 if there was none.

-- Higher than all before, and by the clock, so that it is so, too, where Redis has lost the last of them.
local function next_serial(key, now)
  local serial = string.format('%d', math.max(tonumber(redis.call('GET', key) or 0) + 1, now)) -- below 2^53, so exact
  redis.call('SET', key, serial)
  return serial
end
redis.replicate_commands() -- Redis 6 would not write after it has looked at the clock
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local node, device, name, now = ARGV[1], ARGV[2], ARGV[3], ARGV[6]
local kept = redis.call('HMGET', KEYS[1], 'token', 'version', 'blob', 'holder', 'clean', 'claim', 'held')
local token, version, blob, holder, clean = kept[1], kept[2] or '0', kept[3], kept[4] or '', kept[5]
local before, was_clean = holder, (clean == '1' or not token) and '1' or '0'
local repeated, ago = false, -1
if kept[6] then
  local last, last_clean, last_ago, last_before = kept[6]:match('^(%S+) (%d) (%S+) (.*)$')
  if last == name then -- an earlier attempt, whose answer was lost
    repeated, was_clean, ago, before = true, last_clean, tonumber(last_ago), last_before
  elseif kept[6]:match('^(%S*)%.%x+ ') ~= name:match('^(.*)%.') then
    -- Tokens are times. One ahead of the clock, of a server before that failed, tells nothing.
    ago = math.max(clock - math.max(tonumber(token), tonumber(kept[7] or 0)), -1)
  end
end
if not repeated then
  if ago >= 0 and ago < tonumber(ARGV[8]) then
    return { 2, ago }
  end
  local is_held = holder ~= '' and holder ~= node and ARGV[4]:find(',' .. holder .. ',', 1, true)
  if is_held and ARGV[5] ~= '1' then
    return { 0, holder }
  end
  token = next_serial(KEYS[4], clock)
  redis.call('HSET', KEYS[1], 'token', token, 'holder', node, 'clean', '0',
    'claim', string.format('%s %s %d %s', name, was_clean, ago, before))
  redis.call('HDEL', KEYS[1], 'held')
  if holder ~= '' and holder ~= node then
    redis.call('SREM', KEYS[3]:sub(1, tonumber(ARGV[7])) .. holder, device) -- of the same hash tag
  end
  redis.call('SADD', KEYS[3], device)
end
local dismissed = redis.call('ZRANGEBYSCORE', KEYS[2], now, '+inf')
return { 1, tonumber(token), tonumber(version), blob, tonumber(was_clean), before, dismissed, ago }
