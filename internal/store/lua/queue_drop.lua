-- Removes the copies of an instance's records. KEYS: the stream, the instance's index. ARGV: the records' numbers.
local stream, index = KEYS[1], KEYS[2]
for i = 1, #ARGV do
  local id = redis.call('HGET', index, ARGV[i])
  if id then
    redis.call('HDEL', index, ARGV[i])
    if string.sub(id, 1, 4) ~= 'done' then
      redis.pcall('XACK', stream, 'cbproxy', id)
      redis.call('XDEL', stream, id)
    end
  end
end
return 0
