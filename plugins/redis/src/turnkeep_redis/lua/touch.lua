-- Moves a session in an index of a cluster, where the index lies in another slot than the session: sent beside the
-- commit, so nothing is known yet of how that ends. What was there before is returned, so that it can be put back.
--
-- KEYS  the four sets; for a namespace also the set of due sessions
-- ARGV  clock, session id, '1' if it is being created, status ('' to keep it),
--       the session's name in the set of due ones, its former name, and in how many microseconds it will be due ('' never)

local now = clock(ARGV[1])
local sets = {KEYS[1], KEYS[2], KEYS[3], KEYS[4]}
local status, active_at, created_at = find_entry(sets, ARGV[2])
local before = {
  digits(now), status or '', active_at and digits(active_at) or '', created_at and digits(created_at) or '',
}
local creates = ARGV[3] == '1'
local wanted = ARGV[4] ~= '' and ARGV[4] or (creates and 'active') or status
local known = wanted and (creates or created_at)
if known then
  local time = (creates or not active_at) and now or math.max(now, active_at + 1)
  set_entry(sets, ARGV[2], wanted, time, creates and now or created_at)
  before[5] = digits(time)
end
if known and KEYS[5] and ARGV[6] ~= '' then
  redis.call('ZREM', KEYS[5], ARGV[6])
end
if known and KEYS[5] and ARGV[7] ~= '' then
  -- Too early is harmless, a sweep looks and comes back; too late would leave something behind.
  local due, old = now + tonumber(ARGV[7]), tonumber(redis.call('ZSCORE', KEYS[5], ARGV[5]) or nil)
  redis.call('ZADD', KEYS[5], digits(math.min(due, old or due)), ARGV[5])
end
return before
