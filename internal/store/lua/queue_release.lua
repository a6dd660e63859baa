-- Makes the copies that an instance has claimed and not taken over claimable by others. KEYS: the stream. ARGV: the instance.
local stream, consumer = KEYS[1], ARGV[1] .. adopting
for _ = 1, 100 do
  local pending = redis.pcall('XPENDING', stream, 'cbproxy', '-', '+', 1000, consumer)
  if pending.err then
    if string.find(pending.err, 'NOGROUP', 1, true) then return 0 end
    return pending
  end
  for _, p in ipairs(pending) do
    redis.call('XCLAIM', stream, 'cbproxy', 'released' .. adopting, 0, p[1], 'JUSTID')
  end
  if #pending < 1000 then return 0 end
end
return 0
