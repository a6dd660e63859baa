-- Stores and publishes a decision, if the decision that it follows is still the last one and, for an opening that requires a quorum, enough
-- instances have detected the failure within one window. KEYS: the state. ARGV: the epoch of the decision it follows, the time to live in
-- ms, the channel, the instance, the quorum or 0, the window and the age of the instance's own detection in ms, and the state's fields and
-- values without the epoch, which the script assigns: it is never lower than the time in ms, so that after a lost key new decisions do not
-- look old.
local key, expected, ttl, channel = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local instance, quorum, window, age = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local epoch = tonumber(redis.call('HGET', key, 'epoch')) or 0
if not (epoch <= 9007199254740991) then epoch = 0 end
if epoch ~= expected or redis.call('HEXISTS', key, 'state') == 0 then
  return {t[1], t[2], redis.call('HGETALL', key), 'outdated'}
end

if quorum > 0 then
  if age < window then
    redis.call('HSET', key, 'finding:' .. instance, string.format('%.0f', now - age))
    redis.call('PEXPIRE', key, ttl)
  end
  local findings, fields = 0, redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 8) == 'finding:' then
      if now - (tonumber(fields[i + 1]) or 0) < window then
        findings = findings + 1
      else
        redis.call('HDEL', key, fields[i])
      end
    end
  end
  if findings < quorum then
    return {t[1], t[2], redis.call('HGETALL', key), 'counted'}
  end
end

local state = {}
redis.call('DEL', key)
for i = 8, #ARGV, 2 do
  redis.call('HSET', key, ARGV[i], ARGV[i + 1])
  state[ARGV[i]] = ARGV[i + 1]
end
state.epoch = string.format('%.0f', math.max(epoch + 1, now))
redis.call('HSET', key, 'epoch', state.epoch)
redis.call('PEXPIRE', key, ttl)
redis.pcall('PUBLISH', channel, cjson.encode(state))
return {t[1], t[2], redis.call('HGETALL', key), 'accepted'}
