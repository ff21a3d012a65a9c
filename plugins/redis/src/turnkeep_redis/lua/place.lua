-- Puts a session at a given place of an index, or takes it out, if it is still where the caller saw it.
--
-- KEYS  the four sets; for a namespace also the set of due sessions
-- ARGV  session id, the instant of activity at which the caller saw it, '1' if its entry must be of just that instant
--       (otherwise it may be older, or missing),
--       status ('' to take it out), instant of activity, instant of creation,
--       the session's name in the set of due ones ('' to leave that), when it will be due ('' never)

local sets = {KEYS[1], KEYS[2], KEYS[3], KEYS[4]}
local status, active_at = find_entry(sets, ARGV[1])
local seen_at = tonumber(ARGV[2])
if active_at and active_at > seen_at or ARGV[3] == '1' and active_at ~= seen_at then
  return 0
end
if ARGV[4] ~= '' then
  set_entry(sets, ARGV[1], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]))
else
  set_entry(sets, ARGV[1])
end
if KEYS[5] and ARGV[7] ~= '' then
  if ARGV[8] ~= '' then
    redis.call('ZADD', KEYS[5], ARGV[8], ARGV[7])
  else
    redis.call('ZREM', KEYS[5], ARGV[7])
  end
end
return 1
