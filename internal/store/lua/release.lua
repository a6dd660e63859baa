-- Gives up the lease of a token, if it is still the token's. Takes: the lease's key; the token.
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] or held == ARGV[1] .. ' wanted' then return redis.call('DEL', KEYS[1]) end
return 0
