-- Releases the lease if the token holds it. KEYS: the lease. ARGV: the token.
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] or held == ARGV[1] .. ' wanted' then return redis.call('DEL', KEYS[1]) end
return 0
