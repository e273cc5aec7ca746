-- Where a stream ends: the id of its last entry, and how many were ever added.
--
-- KEYS: the stream, the count of its entries.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
return { last[1] and last[1][1] or '0-0', tonumber(redis.call('GET', KEYS[2]) or 0) }
