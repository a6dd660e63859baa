-- Common functions, prepended to other scripts.

-- The consumer of copies that an instance has claimed and not yet taken over is named after the instance, followed by this suffix.
local adopting = '/adopting'

-- Reports whether a consumer has this suffix, and returns its name without it.
local function without_suffix(consumer)
  if string.sub(consumer, -#adopting) == adopting then return string.sub(consumer, 1, -#adopting - 1), true end
  return consumer, false
end

-- Reports whether a value of an index marks a record that another instance has taken over.
local function is_done(value) return string.sub(value, 1, 4) == 'done' end

-- Returns the consumer that an entry is pending for, nil if for none. lost is whether the group, and so the data of the stream, is lost.
local function consumer_of(stream, id)
  local pending = redis.pcall('XPENDING', stream, 'cbproxy', id, id, 1)
  if pending.err then return nil, true end
  return pending[1] and pending[1][2], false
end

-- Reports whether the fields of an entry are those of a copy.
local function is_copy(f)
  return f and #f == 6 and f[1] == 'origin' and f[3] == 'seq' and f[5] == 'payload'
end

-- Assigns entries without a consumer to the instances that added them. All entries have none if the group was removed. Removes entries that
-- are not copies.
local function assign_unassigned(stream, consumer)
  while true do
    local taken = redis.pcall('XREADGROUP', 'GROUP', 'cbproxy', consumer, 'COUNT', 1000, 'STREAMS', stream, '>')
    if taken and taken.err then -- there is no group
      redis.call('XGROUP', 'CREATE', stream, 'cbproxy', '0', 'MKSTREAM')
    elseif not taken or not taken[1] then
      return
    else
      for _, entry in ipairs(taken[1][2]) do
        local id, f = entry[1], entry[2]
        if not is_copy(f) then
          redis.call('XACK', stream, 'cbproxy', id)
          redis.call('XDEL', stream, id)
        elseif f[2] ~= consumer then
          redis.call('XCLAIM', stream, 'cbproxy', f[2], 0, id, 'JUSTID')
        end
      end
    end
  end
end

