-- A head alone, for lists and counts.
--
-- KEYS  head
-- ARGV  clock, '1' to measure the documents, too

local head, values, damage = read_head(KEYS[1])
if damage then
  return {'corrupt', damage}
end
local now = clock(ARGV[1])
if not is_live(head, now) then
  return {'absent'}
end
local size = head.bytes
if ARGV[2] == '1' then
  size = size + redis.call('HSTRLEN', KEYS[1], 'collected_data') + redis.call('HSTRLEN', KEYS[1], 'state')
end
return {'done', values, digits(floor_at(head, read_marks(head.marks), now)), digits(size)}
