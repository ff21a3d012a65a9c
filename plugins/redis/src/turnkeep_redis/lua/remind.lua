-- Says when a session is due next, unless somebody else said so meanwhile.
--
-- KEYS  the set of due sessions
-- ARGV  the session's name there, the instant it was seen with, the new one ('' never)

if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or nil) ~= tonumber(ARGV[2]) then
  return 0
end
if ARGV[3] ~= '' then
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return 1
