-- Makes a claimed copy that of a record of the claiming instance, and tells its origin that it
-- need not care for it any more. Takes: the stream, the instance's index; the instance, its
-- record's number, the copy's id, the origin and its number, what indexes begin with, for how many
-- ms the origin is told, and the digest of what was taken over.
local stream, index = KEYS[1], KEYS[2]
local me, seq, id, origin, before, prefix, keep, digest = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
redis.call('XCLAIM', stream, 'cbproxy', me, 0, id, 'JUSTID')
redis.call('HSET', index, seq, id)
if origin == me then
  redis.call('HDEL', index, before)
else
  redis.call('HSET', prefix .. origin, before, 'done ' .. digest)
  redis.call('PEXPIRE', prefix .. origin, keep)
end
return 0
