-- Replaces a claimed copy by one of a record of the claiming instance, and marks the record of the previous instance as done in its index.
-- Returns 0, and changes nothing, if another instance has the record. KEYS: the stream, the instance's index. ARGV: the instance, its record's
-- number, the copy's ID, the previous instance and the record's number there, the prefix of indexes, for how many ms the previous
-- instance's index is kept, the digest of the payload, and 1 if a previous call for the copy may have succeeded.
local stream, index = KEYS[1], KEYS[2]
local consumer, seq, id, previous, before = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local prefix, keep, done, repeated = ARGV[6], ARGV[7], 'done ' .. ARGV[8], ARGV[9] == '1'
local own = redis.call('HGET', index, seq)
if own and is_done(own) then own = false end
local holder, lost = consumer_of(stream, id)
if not holder and not lost then -- the copy was removed
  if own or repeated then return 1 end
  return redis.call('HGET', prefix .. previous, before) == done and 0 or 1
end
if holder and holder ~= consumer then
  local _, claimed = without_suffix(holder)
  if not claimed then return own and 1 or 0 end -- its consumer has the record
end
local entry = redis.call('XRANGE', stream, id, id)[1]
if entry and is_copy(entry[2]) then -- a new entry, because the fields of the old one are those of the previous instance's record
  local added = redis.call('XADD', stream, '*', 'origin', consumer, 'seq', seq, 'payload', entry[2][6])
  assign_unassigned(stream, consumer)
  for _, old in ipairs({id, own or nil}) do -- the record was copied if this script could not run before
    redis.call('XACK', stream, 'cbproxy', old)
    redis.call('XDEL', stream, old)
  end
  redis.call('HSET', index, seq, added)
end
if previous == consumer then
  if before ~= seq then redis.call('HDEL', index, before) end
else
  redis.call('HSET', prefix .. previous, before, done)
  redis.call('PEXPIRE', prefix .. previous, keep)
end
return 1
