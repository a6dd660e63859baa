-- Stores a state that is newer than what is there, keeps what is there alive, and tells both
-- what is there then and the time. Takes: the state's key; its epoch, the time to live in ms,
-- the channel, 1 if a state of the same epoch is to be replaced, and the state's fields and values.
local key, mine, ttl, channel = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local replace = ARGV[4] == '1'
local t = redis.call('TIME')

local epoch = tonumber(redis.call('HGET', key, 'epoch')) or 0
if not (epoch <= 9007199254740991) then epoch = 0 end -- nobody counts that far: it is not ours
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
