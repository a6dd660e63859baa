-- Adds copies of an instance's records that have none, and makes the instance their consumer. KEYS: the stream, the instance's index.
-- ARGV: the instance, and each record's number and payload.
local stream, index, consumer = KEYS[1], KEYS[2], ARGV[1]
for i = 2, #ARGV, 2 do
  if redis.call('HEXISTS', index, ARGV[i]) == 0 then
    local id = redis.call('XADD', stream, '*', 'origin', consumer, 'seq', ARGV[i], 'payload', ARGV[i + 1])
    redis.call('HSET', index, ARGV[i], id)
  end
end
assign_unassigned(stream, consumer)
return 0
