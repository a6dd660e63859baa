-- Claims copies of instances without a heartbeat, and those whose takeover was not completed. Returns the ID, store, number and
-- payload of each. KEYS: the stream. ARGV: the claiming instance, the prefixes of heartbeats and of indexes, the maximum number of copies, the
-- number of bytes after which it stops, and the number of bytes of the largest payload that the instance can read.
local stream, consumer, alive, indexes = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local limit, enough, largest = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local maxskipped = 10 -- copies of one consumer that are not claimed and do not keep later ones from being claimed
local claimed, bytes = {}, 0
if redis.call('EXISTS', alive .. consumer) == 0 then return claimed end
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, 'cbproxy')
if consumers.err then
  if string.find(consumers.err, 'NOGROUP', 1, true) then assign_unassigned(stream, consumer) end
  return claimed -- there is no stream, or the next call finds the copies
end
for i, flat in ipairs(consumers) do
  local c = {}
  for j = 1, #flat, 2 do c[flat[j]] = flat[j + 1] end
  consumers[i] = c
end

-- Returns the instance whose record the copy is, the record's number there, and whether its index confirms that. An entry names the instance
-- that added it. Older versions do not add another entry when they take a copy over, so that only the index of the last instance has its ID.
local numbers = {} -- by instance, the records' numbers by the IDs of their copies
local function owner_of(id, f)
  if redis.pcall('HGET', indexes .. f[2], f[4]) == id then return f[2], f[4], true end
  for _, c in ipairs(consumers) do
    local name = without_suffix(c.name)
    if not numbers[name] then
      numbers[name] = {}
      local index = redis.pcall('HGETALL', indexes .. name)
      for i = 1, #index, 2 do numbers[name][index[i + 1]] = index[i] end
    end
    if numbers[name][id] then return name, numbers[name][id], true end
  end
  return f[2], f[4], false
end

-- Claims one copy, unless it cannot be read or belongs to an instance that has returned.
local function claim(id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  local f = entry and entry[2]
  if not is_copy(f) then -- it was deleted, or is not a copy
    redis.call('XACK', stream, 'cbproxy', id)
    redis.call('XDEL', stream, id)
    return
  end
  if #f[6] > largest then return end
  local owner, seq, confirmed = owner_of(id, f)
  if confirmed and redis.call('EXISTS', alive .. owner) == 1 then
    redis.call('XCLAIM', stream, 'cbproxy', owner, 0, id, 'JUSTID')
    return
  end
  redis.call('XCLAIM', stream, 'cbproxy', consumer .. adopting, 0, id, 'JUSTID')
  claimed[#claimed + 1] = {id, owner, seq, f[6]}
  bytes = bytes + #f[6]
end

for _, c in ipairs(consumers) do
  local owner, is_adopting = without_suffix(c.name)
  local mine = is_adopting and owner == consumer
  if mine or owner ~= consumer and redis.call('EXISTS', alive .. owner) == 0 then
    if c.pending == 0 then
      if not mine and c.idle > 86400000 then redis.call('XGROUP', 'DELCONSUMER', stream, 'cbproxy', c.name) end
    elseif #claimed < limit and bytes < enough then
      for _, p in ipairs(redis.call('XPENDING', stream, 'cbproxy', '-', '+', limit - #claimed + maxskipped, c.name)) do
        claim(p[1])
        if #claimed >= limit or bytes >= enough then break end
      end
    end
  end
end
return claimed
