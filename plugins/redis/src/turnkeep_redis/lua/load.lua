-- A session as one version of everything: head, documents, the newest messages, and what a commit did if asked.
--
-- KEYS  head, messages
-- ARGV  clock, scope, window ('' for all), commit id ('' for none), how far a window may be widened

local now = clock(ARGV[1])
local head, values, damage = read_head(KEYS[1])
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
local floor = floor_at(head, read_marks(head.marks), now)

local low = floor + 1
if ARGV[3] ~= '' then
  low = math.max(low, head.last_seq - tonumber(ARGV[3]) + 1)
  if low > floor + 1 and low <= head.last_seq then
    -- A message begins with its place within its commit.
    local oldest = redis.call('LINDEX', KEYS[2], digits(low - head.base - 1))
    local place = tonumber(string.match(oldest, '^%[(%d+),'))
    if not place then
      return {'corrupt', 'message ' .. digits(low) .. ' is not one'}
    end
    low = math.max(floor + 1, low - place, low - tonumber(ARGV[5]))
  end
end
local messages = read_stretch(KEYS[2], head, low, head.last_seq)

local past, replayed, replayed_from = false, '', 0
if ARGV[4] ~= '' then
  past = redis.call('HGET', KEYS[1], 'commit:' .. ARGV[4])
  if past then
    local found = read_past(past)
    replayed_from = math.max(found.first, floor + 1)
    if found.first > 0 then
      replayed = read_stretch(KEYS[2], head, replayed_from, found.last)
    end
  end
end
local documents = redis.call('HMGET', KEYS[1], 'collected_data', 'state')
return {
  'done', values, digits(floor), documents[1], documents[2], digits(low), messages, past, digits(replayed_from), replayed,
}
