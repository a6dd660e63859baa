-- Acquires the lease for a token if it is free or held by the token, and returns 0. Otherwise marks the lease as wanted and returns how many
-- ms it lasts. KEYS: the lease. ARGV: the token, the duration in ms.
local key, token, ms = KEYS[1], ARGV[1], tonumber(ARGV[2])
local held = redis.call('GET', key)
if not held or held == token or held == token .. ' wanted' then
  redis.call('SET', key, token, 'PX', ms)
  return 0
end
local left = redis.call('PTTL', key)
if left < 0 or left > ms then left = ms end -- not set by this script, or without an expiry
if string.sub(held, -7) ~= ' wanted' then held = held .. ' wanted' end
redis.call('SET', key, held, 'PX', math.max(left, 1))
return math.max(left, 1)
