-- Keeping the sorted sets that lists read. An index is four of them: one per status, by activity, and one by creation.
-- Activity counts down (the score is minus the instant), so that both orders are read forwards and ties rise by id.

-- Where a session stands: its status, its instants; nil and nil where the sets do not have it.
local function find_entry(keys, id)
  for number, status in ipairs(STATUSES) do
    local score = redis.call('ZSCORE', keys[number], id)
    if score then
      return status, -tonumber(score), tonumber(redis.call('ZSCORE', keys[4], id) or nil)
    end
  end
  return nil, nil, tonumber(redis.call('ZSCORE', keys[4], id) or nil)
end

-- Puts a session where it belongs, and nowhere else; without a status it is removed.
-- `stays`: its status is what it was, so it is in no other set.
local function set_entry(keys, id, status, active_at, created_at, stays)
  for number, name in ipairs(STATUSES) do
    if name == status then
      redis.call('ZADD', keys[number], digits(-active_at), id)
    elseif not stays then
      redis.call('ZREM', keys[number], id)
    end
  end
  if status and created_at then
    redis.call('ZADD', keys[4], digits(created_at), id)
  else
    redis.call('ZREM', keys[4], id)
  end
end
