-- A page of history.
--
-- KEYS  head, messages
-- ARGV  clock, scope, limit, before ('' for none), after ('' for none)

local now = clock(ARGV[1])
local head, _, damage = read_head(KEYS[1])
if damage then
  return {'corrupt', damage}
end
if not is_live(head, now) or not sees(ARGV[2], head.user_id) then
  return {'absent'}
end
damage = find_gap(KEYS[2], head)
if damage then
  return {'corrupt', damage}
end
local low, high = floor_at(head, read_marks(head.marks), now) + 1, head.last_seq
local limit, first, last, more = tonumber(ARGV[3])
if ARGV[5] ~= '' then
  first = math.max(low, tonumber(ARGV[5]) + 1)
  last = math.min(high, first + limit - 1)
  more = last < high
else
  last = ARGV[4] ~= '' and math.min(high, tonumber(ARGV[4]) - 1) or high
  first = math.max(low, last - limit + 1)
  more = first > low
end
local messages, count = read_stretch(KEYS[2], head, first, last)
return {'done', digits(first), count, messages, more and 1 or 0}
