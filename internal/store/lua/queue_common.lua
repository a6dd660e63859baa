-- Common functions, prepended to other scripts.

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

