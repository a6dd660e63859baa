-- Claims copies of instances that are gone, and those that were claimed before and not adopted,
-- and tells each one's id, origin, number and payload. Takes: the stream; the instance that
-- claims, what signs of life begin with, and how many at most.
local stream, me, alive, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local adopting = '/adopting'
local claimed = {}
if redis.call('EXISTS', alive .. me) == 0 then return claimed end
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, 'cbproxy')
if consumers.err then return claimed end -- there is no stream
for _, flat in ipairs(consumers) do
  local c = {}
  for i = 1, #flat, 2 do c[flat[i]] = flat[i + 1] end
  local owner = c.name
  if string.sub(owner, -#adopting) == adopting then owner = string.sub(owner, 1, -#adopting - 1) end
  local mine = c.name == me .. adopting
  if mine or owner ~= me and redis.call('EXISTS', alive .. owner) == 0 then
    if c.pending == 0 then
      if not mine and c.idle > 86400000 then redis.call('XGROUP', 'DELCONSUMER', stream, 'cbproxy', c.name) end
    elseif #claimed < limit then
      for _, p in ipairs(redis.call('XPENDING', stream, 'cbproxy', '-', '+', limit - #claimed, c.name)) do
        local entry = redis.call('XCLAIM', stream, 'cbproxy', me .. adopting, 0, p[1])[1]
        if entry and entry[2] then
          local f = entry[2]
          claimed[#claimed + 1] = {entry[1], f[2], f[4], f[6]}
        else
          redis.call('XACK', stream, 'cbproxy', p[1]) -- it is nowhere any more
        end
      end
    end
  end
end
return claimed
