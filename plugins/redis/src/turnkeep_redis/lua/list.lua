-- The entries of an index that follow a position, in the order of score, then id.
--
-- KEYS  the sets to read, of one index
-- ARGV  clock, score and id of the position ('' for the beginning), how many

local now, limit = clock(ARGV[1]), tonumber(ARGV[4])

-- Whether one id comes before another, byte by byte: Lua's own comparison goes by the server's locale.
local function precedes(left, right)
  for index = 1, math.min(#left, #right) do
    local one, other = string.byte(left, index), string.byte(right, index)
    if one ~= other then
      return one < other
    end
  end
  return #left < #right
end

-- The rank of the first entry after the position: at equal scores Redis orders by bytes, as we do.
local function rank_after(key, score, id)
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  local high = low + redis.call('ZCOUNT', key, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if precedes(id, redis.call('ZRANGE', key, middle, middle)[1]) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local answer = {digits(now)}
for _, key in ipairs(KEYS) do
  local start = ARGV[2] ~= '' and rank_after(key, ARGV[2], ARGV[3]) or 0
  for _, part in ipairs(redis.call('ZRANGE', key, start, start + limit - 1, 'WITHSCORES')) do
    answer[#answer + 1] = part
  end
end
return answer
