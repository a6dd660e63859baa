-- Claims copies of instances without a heartbeat, and those whose takeover was not completed. Returns the ID, store, number and
-- payload of each. KEYS: the stream. ARGV: the claiming instance, the prefix of heartbeats, the maximum number of copies, and the number of
-- bytes after which it stops.
local stream, consumer, alive, limit, enough = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local suffix = '/adopting'
local claimed, bytes = {}, 0
if redis.call('EXISTS', alive .. consumer) == 0 then return claimed end
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, 'cbproxy')
if consumers.err then
  if string.find(consumers.err, 'NOGROUP', 1, true) then assign_unassigned(stream, consumer) end
  return claimed -- there is no stream, or the next call finds the copies
end
for _, flat in ipairs(consumers) do
  local c = {}
  for i = 1, #flat, 2 do c[flat[i]] = flat[i + 1] end
  local owner = c.name
  if string.sub(owner, -#suffix) == suffix then owner = string.sub(owner, 1, -#suffix - 1) end
  local mine = c.name == consumer .. suffix
  if mine or owner ~= consumer and redis.call('EXISTS', alive .. owner) == 0 then
    if c.pending == 0 then
      if not mine and c.idle > 86400000 then redis.call('XGROUP', 'DELCONSUMER', stream, 'cbproxy', c.name) end
    elseif #claimed < limit and bytes < enough then
      for _, p in ipairs(redis.call('XPENDING', stream, 'cbproxy', '-', '+', limit - #claimed, c.name)) do
        local entry = redis.call('XCLAIM', stream, 'cbproxy', consumer .. suffix, 0, p[1])[1]
        local f = entry and entry[2]
        if is_copy(f) then
          claimed[#claimed + 1] = {entry[1], f[2], f[4], f[6]}
          bytes = bytes + #f[6]
          if bytes >= enough then break end
        else -- it was deleted, or is not a copy
          redis.call('XACK', stream, 'cbproxy', p[1])
          redis.call('XDEL', stream, p[1])
        end
      end
    end
  end
end
return claimed
