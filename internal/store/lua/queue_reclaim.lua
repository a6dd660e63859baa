-- Makes an instance the consumer of the copies of its records again, if another instance has claimed them and not taken them over. Returns
-- the numbers of the records that another instance has taken over, each followed by its value in the index. Removes copies that do not
-- exist from the index. KEYS: the stream, the instance's index. ARGV: the instance, and the records' numbers.
local stream, index, consumer = KEYS[1], KEYS[2], ARGV[1]
local taken = {}
for i = 2, #ARGV do
  local id = redis.call('HGET', index, ARGV[i])
  if id and is_done(id) then
    taken[#taken + 1], taken[#taken + 2] = ARGV[i], id
  elseif id then
    local holder, lost = consumer_of(stream, id)
    local entry = holder and {} or redis.pcall('XRANGE', stream, id, id)
    if entry.err or not holder and #entry == 0 then
      redis.call('HDEL', index, ARGV[i])
    elseif holder ~= consumer and not lost then
      redis.call('XCLAIM', stream, 'cbproxy', consumer, 0, id, 'FORCE', 'JUSTID')
    end
  end
end
return taken
