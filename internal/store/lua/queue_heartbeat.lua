-- Sends the heartbeat of an instance and extends the life of its copies. Returns whether the previous heartbeat had not expired, and the
-- number of copies. KEYS: the heartbeat, the stream, the index. ARGV: the life of the heartbeat and of the copies in ms.
local was = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
local copies = redis.call('HLEN', KEYS[3])
if copies > 0 and redis.call('XLEN', KEYS[2]) == 0 then -- the stream was lost, but not the index
  local index = redis.call('HGETALL', KEYS[3])
  for i = 1, #index, 2 do
    if string.sub(index[i + 1], 1, 4) ~= 'done' then
      redis.call('HDEL', KEYS[3], index[i])
      was = 0
    end
  end
end
return {was, copies}
