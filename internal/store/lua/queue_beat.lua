-- Tells that an instance is alive, keeps its copies, and tells whether it was taken for alive
-- until now, and how many copies it has. Takes: its sign of life, the stream, its index; for how
-- many ms it counts as alive, and for how many the copies are kept.
local was = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
local copies = redis.call('HLEN', KEYS[3])
if copies > 0 and redis.call('XLEN', KEYS[2]) == 0 then -- the stream was lost, and the index was not
  local index = redis.call('HGETALL', KEYS[3])
  for i = 1, #index, 2 do
    if string.sub(index[i + 1], 1, 4) ~= 'done' then
      redis.call('HDEL', KEYS[3], index[i])
      was = 0
    end
  end
end
return {was, copies}
