-- Keeps the lease of a token for another ms and tells 1, or 2 if another instance wants it; 0
-- if it is not the token's any more. Takes: the lease's key; the token, the ms.
local key, token, ms = KEYS[1], ARGV[1], tonumber(ARGV[2])
local held = redis.call('GET', key)
if held == token then return redis.call('PEXPIRE', key, ms) end
if held == token .. ' wanted' then return 2 * redis.call('PEXPIRE', key, ms) end
return 0
