-- What the scripts share; each is this text followed by its own.
-- Numbers are doubles, exact up to 2^53: microseconds since 1970 pass that in the year 2255.

local FIELDS = {
  'namespace', 'session_id', 'user_id', 'incarnation', 'version', 'last_commit', 'status', 'agent_name',
  'current_route', 'current_step', 'last_seq', 'floor', 'base', 'last_message_at', 'completed_at', 'created_at',
  'updated_at', 'expires_at', 'marks', 'bytes',
}
local STATUSES = {'active', 'completed', 'abandoned'}

local function digits(number)
  return string.format('%.0f', number)
end

-- The time in microseconds: the server's, unless the caller brings a clock (tests do).
local function clock(given)
  if given ~= '' then
    return tonumber(given)
  end
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000000 + tonumber(now[2])
end

-- An optional argument: '' is none, '=text' is the text.
local function given(argument)
  if argument ~= '' then
    return string.sub(argument, 2)
  end
end

-- The head as a table by name and as a list in the order of FIELDS; nil where there is none. Third, what is wrong with it.
local function read_head(key)
  local values = redis.call('HMGET', key, unpack(FIELDS))
  if not values[4] then
    return nil, nil, redis.call('EXISTS', key) == 1 and 'its head has no incarnation' or nil
  end
  local head = {}
  for index, name in ipairs(FIELDS) do
    head[name] = values[index] or nil
  end
  for _, name in ipairs({'version', 'last_seq', 'floor', 'base', 'created_at', 'updated_at', 'bytes'}) do
    head[name] = tonumber(head[name])
    if not head[name] then
      return nil, nil, 'its head has no number in the field ' .. name
    end
  end
  head.expires_at = tonumber(head.expires_at)
  return head, values
end

local function is_live(head, now)
  return head ~= nil and (head.expires_at == nil or head.expires_at > now)
end

-- A scope is '*' (anyone), '-' (sessions without an owner) or '=owner'.
local function sees(scope, owner)
  if scope == '*' then
    return true
  end
  return scope == (owner and '=' .. owner or '-')
end

-- Marks are written 'seq:instant seq:instant', both rising.
local function read_marks(text)
  local marks = {}
  for seq, leaves in string.gmatch(text or '', '(%d+):(%d+)') do
    marks[#marks + 1] = {tonumber(seq), tonumber(leaves)}
  end
  return marks
end

-- The floor once every mark that has passed was applied.
local function floor_at(head, marks, now)
  local floor = head.floor
  for _, mark in ipairs(marks) do
    if mark[2] <= now and mark[1] > floor then
      floor = mark[1]
    end
  end
  return floor
end

-- Whether as many messages lie there as the head counts; a text that says what is wrong, or nil.
local function find_gap(key, head)
  local found, counted = redis.call('LLEN', key), head.last_seq - head.base
  if found ~= counted then
    return string.format('its head counts %.0f messages, but %.0f are there', counted, found)
  end
end

-- Messages from one seq to another as one JSON list, and how many; both must lie above the floor.
local function read_stretch(key, head, low, high)
  if low > high then
    return '', 0
  end
  local items = redis.call('LRANGE', key, digits(low - head.base - 1), digits(high - head.base - 1))
  local count = #items
  if count == 0 then
    return '[]', 0
  end
  -- Brackets put around the whole would copy it once more: 0.1 ms for 50 messages of 1 KB.
  items[1] = '[' .. items[1]
  items[count] = items[count] .. ']'
  return table.concat(items, ','), count
end

-- What is remembered of a commit, as it was written by commit.lua; the digest comes last because it may be any text.
local function read_past(text)
  local version, created, contiguous, first, last, count, time, call, digest =
    string.match(text, '^(%d+) (%d) (%d) (%d+) (%d+) (%d+) (%d+) (%S+) (.*)$')
  return {
    version = version, created = created, contiguous = contiguous, first = tonumber(first), last = tonumber(last),
    count = count, time = time, call = call, digest = digest,
  }
end
