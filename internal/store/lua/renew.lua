-- Extends the lease of a token. Returns 1, or 2 if another instance wants it, or 0 if the token does not hold it any more. KEYS: the lease.
-- ARGV: the token, the duration in ms.
local key, token, ms = KEYS[1], ARGV[1], tonumber(ARGV[2])
local held = redis.call('GET', key)
if held == token then return redis.call('PEXPIRE', key, ms) end
if held == token .. ' wanted' then return 2 * redis.call('PEXPIRE', key, ms) end
return 0
