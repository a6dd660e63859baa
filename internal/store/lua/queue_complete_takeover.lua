-- Makes a claimed copy the copy of a record of the claiming instance, and marks it as done in the index of its origin. KEYS: the stream,
-- the instance's index. ARGV: the instance, its record's number, the copy's ID, the origin and the record's number there, the prefix of
-- indexes, for how many ms the origin's index is kept, and the digest of the payload.
local stream, index = KEYS[1], KEYS[2]
local consumer, seq, id, origin, before, prefix, keep, digest = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
redis.call('XCLAIM', stream, 'cbproxy', consumer, 0, id, 'JUSTID')
local own = redis.call('HGET', index, seq) -- the record was copied before this script could run
if own and own ~= id and string.sub(own, 1, 4) ~= 'done' then
  redis.pcall('XACK', stream, 'cbproxy', own)
  redis.call('XDEL', stream, own)
end
redis.call('HSET', index, seq, id)
if origin == consumer then
  redis.call('HDEL', index, before)
else
  redis.call('HSET', prefix .. origin, before, 'done ' .. digest)
  redis.call('PEXPIRE', prefix .. origin, keep)
end
return 0
