-- Stores a record over what the caller decided by, and tells the tails; see SharedStore.put_item.
--
-- KEYS: the id's pointer "expires n token token ..." (newest token first), the record, the live set
--       (numbers by expiry), the stream of numbers, the count of the stream's entries.
-- ARGV: now, the token it is over ("" none, "*" whatever there is), its token, n, expires, seconds that
--       a record is kept beyond its time, the value, who writes, the length of the stream, tokens kept.
-- Returns nothing once it is stored, else the value that is stored instead.
local now, over, token, n, expires = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local held_until, held_n, tokens = 0, nil, ''
local held = redis.call('GET', KEYS[1])
if held then
  held_until, held_n, tokens = held:match('^(%d+) (%d+) (.+)$')
end
if tokens:find(token, 1, true) then
  return false -- an earlier attempt, whose answer was lost
end
if tonumber(held_until) > now and over ~= '*' and tokens:sub(1, 16) ~= over then
  -- The record's key has the same hash tag as KEYS[2], and ends with its own number.
  local stored = redis.call('GET', KEYS[2]:sub(1, -#n - 1) .. held_n)
  if stored then
    return stored
  end
end
local gone = (tonumber(expires) + tonumber(ARGV[6])) * 1000
tokens = (token .. ' ' .. tokens):sub(1, 17 * tonumber(ARGV[10]))
redis.call('SET', KEYS[1], expires .. ' ' .. n .. ' ' .. tokens, 'PXAT', gone)
redis.call('SET', KEYS[2], ARGV[7], 'PXAT', gone)
redis.call('ZADD', KEYS[3], expires, n)
-- Keys expire by themselves, members of a set do not: a few with every item keep up.
local over_long = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[6], 'LIMIT', 0, 8)
if #over_long > 0 then
  redis.call('ZREM', KEYS[3], unpack(over_long))
end
local count = redis.call('INCR', KEYS[5])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[9], '*', 'c', count, 'n', n, 't', token, 'by', ARGV[8])
return false
