-- Tells that an instance is alive, keeps its copies, and tells whether it was taken for alive
-- until now, and how many copies it has. Takes: its sign of life, the stream, its index; for how
-- many ms it counts as alive, and for how many the copies are kept.
local was = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return {was, redis.call('HLEN', KEYS[3])}
