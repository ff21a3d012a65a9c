-- Removes a session, if it is visible and where it is expected to be.
--
-- KEYS  head, messages; on a server that is no cluster also the index keys, as for commit.lua
-- ARGV  clock, scope, session id, expected incarnation, version and last commit ('' for whatever it is at),
--       '=owner' as the caller believes it to be, the session's names in the set of due ones, with that owner and without,
--       '1' to remove it even if it has expired

local now = clock(ARGV[1])
local head, _, damage = read_head(KEYS[1])
if damage then
  return {'corrupt', damage}
end
local live = is_live(head, now)
if not head or not sees(ARGV[2], head.user_id) or not (live or ARGV[10] == '1') then
  return {'absent', digits(now), head and 1 or 0}
end
if ARGV[4] ~= '' and not (
  head.incarnation == ARGV[4] and digits(head.version) == ARGV[5] and head.last_commit == ARGV[6]
) then
  return {'conflict', head.incarnation, digits(head.version), head.last_commit}
end
if (head.user_id or '') ~= (given(ARGV[7]) or '') then
  return {'owner', head.user_id or ''}
end
redis.call('LLEN', KEYS[2])
for index = 3, #KEYS do
  redis.call('ZCARD', KEYS[index])
end

redis.call('DEL', KEYS[1], KEYS[2])
if KEYS[3] then
  set_entry({KEYS[3], KEYS[4], KEYS[5], KEYS[6]}, ARGV[3])
  if KEYS[8] then
    set_entry({KEYS[8], KEYS[9], KEYS[10], KEYS[11]}, ARGV[3])
  end
  redis.call('ZREM', KEYS[7], ARGV[8], ARGV[9])
end
local messages = head.last_seq - floor_at(head, read_marks(head.marks), now)
return {'done', digits(math.max(now, head.updated_at)), digits(messages), live and 1 or 0}
