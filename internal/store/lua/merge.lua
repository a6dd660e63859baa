-- Stores a state that is newer than the stored one, extends the key's time to live, and returns the time and the stored state. KEYS: the
-- state. ARGV: its epoch, the time to live in ms, the channel, 1 if a state of the same epoch is to be replaced, and the state's fields and
-- values.
local key, mine, ttl, channel = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local replace = ARGV[4] == '1'
local t = redis.call('TIME')

local epoch = tonumber(redis.call('HGET', key, 'epoch')) or 0
if not (epoch <= 9007199254740991) then epoch = 0 end -- not a valid epoch
local known = redis.call('HEXISTS', key, 'state') == 1

if not known or epoch < mine or replace and epoch == mine then
  local state = {}
  redis.call('DEL', key)
  for i = 5, #ARGV, 2 do
    redis.call('HSET', key, ARGV[i], ARGV[i + 1])
    state[ARGV[i]] = ARGV[i + 1]
  end
  redis.call('PEXPIRE', key, ttl)
  if mine > epoch then redis.pcall('PUBLISH', channel, cjson.encode(state)) end
elseif redis.call('PTTL', key) < ttl / 2 then
  redis.call('PEXPIRE', key, ttl)
end
return {t[1], t[2], redis.call('HGETALL', key)}
