-- Adds copies of an instance's records that have none yet, and makes the instance their
-- consumer. Takes: the stream, the instance's index; the instance, and each record's number and
-- payload.
local stream, index, me = KEYS[1], KEYS[2], ARGV[1]
if redis.call('EXISTS', stream) == 0 then
  redis.call('XGROUP', 'CREATE', stream, 'cbproxy', '0', 'MKSTREAM')
end
for i = 2, #ARGV, 2 do
  if redis.call('HEXISTS', index, ARGV[i]) == 0 then
    local id = redis.call('XADD', stream, '*', 'origin', me, 'seq', ARGV[i], 'payload', ARGV[i + 1])
    redis.call('HSET', index, ARGV[i], id)
  end
end
local function take()
  return redis.pcall('XREADGROUP', 'GROUP', 'cbproxy', me, 'COUNT', 1000, 'STREAMS', stream, '>')
end
local taken = take()
if taken and taken.err then -- somebody has removed the group
  redis.call('XGROUP', 'CREATE', stream, 'cbproxy', '0')
  taken = take()
end
while taken and taken[1] do taken = take() end
return 0
