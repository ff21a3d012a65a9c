-- Puts a session at a given place of an index, or takes it out, if it is still where the caller saw it.
--
-- KEYS  the four sets; for a namespace also the set of due sessions
-- ARGV  session id, the latest instant of activity at which the caller's word counts,
--       status ('' to take it out), instant of activity, instant of creation,
--       the session's name in the set of due ones ('' to leave that), when it will be due ('' never)

local sets = {KEYS[1], KEYS[2], KEYS[3], KEYS[4]}
local status, active_at = find_entry(sets, ARGV[1])
if active_at and active_at > tonumber(ARGV[2]) then
  return 0
end
if ARGV[3] ~= '' then
  set_entry(sets, ARGV[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]))
else
  set_entry(sets, ARGV[1])
end
if KEYS[5] and ARGV[6] ~= '' then
  if ARGV[7] ~= '' then
    redis.call('ZADD', KEYS[5], ARGV[7], ARGV[6])
  else
    redis.call('ZREM', KEYS[5], ARGV[6])
  end
end
return 1
