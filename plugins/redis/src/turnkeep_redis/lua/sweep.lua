-- Purges what is past its time of one session: all of it, or the messages below its floor.
--
-- KEYS  head, messages
-- ARGV  clock

local now = clock(ARGV[1])
local head, _, damage = read_head(KEYS[1])
if damage then
  return {'corrupt', damage}
end
if not is_live(head, now) then
  local messages = redis.call('LLEN', KEYS[2])
  redis.call('DEL', KEYS[1], KEYS[2])
  return {'gone', digits(now), messages}
end
local marks = read_marks(head.marks)
local floor, due, kept, removed, freed = floor_at(head, marks, now), head.expires_at or math.huge, {}, 0, 0
for _, mark in ipairs(marks) do
  if mark[1] > floor then
    kept[#kept + 1] = digits(mark[1]) .. ':' .. digits(mark[2])
    due = math.min(due, mark[2])
  end
end
if floor > head.base and not find_gap(KEYS[2], head) then
  removed = floor - head.base
  for _, item in ipairs(redis.call('LRANGE', KEYS[2], 0, digits(removed - 1))) do
    freed = freed + #item
  end
  redis.call('LTRIM', KEYS[2], digits(removed), -1)
  redis.call(
    'HSET', KEYS[1], 'floor', digits(floor), 'base', digits(floor), 'bytes', digits(head.bytes - freed),
    'marks', table.concat(kept, ' ')
  )
end
return {'kept', digits(now), removed, due < math.huge and digits(due) or ''}
