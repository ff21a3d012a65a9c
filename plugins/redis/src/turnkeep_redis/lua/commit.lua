-- Decides whether a commit takes effect, and writes all of it or nothing (turnkeep.judge says the same in Python).
-- Lua does not roll back: whatever can fail is looked at before the first write, and that first write is one which
-- Redis refuses when memory is full; it never refuses a later one of the same script.
--
-- KEYS  head, messages; on a server that is no cluster also the four sets of the namespace, the set of due sessions,
--       and the four sets of the owner if there is one
-- ARGV  as `names` says, then the messages

local names = {
  'clock', 'scope', 'namespace', 'session_id', 'expect', 'incarnation', 'version', 'last_commit', 'commit_id', 'digest',
  'call', 'new_incarnation', 'owner', 'claim', 'ttl', 'message_ttl', 'drop_history', 'status', 'completed_at',
  'agent_name', 'current_route', 'current_step', 'data', 'state', 'due', 'due_before',
}
local PAST_COMMITS, MAX_MARKS, CHUNK = 32, 64, 1000

local arg = {}
for index, name in ipairs(names) do
  arg[name] = ARGV[index]
end
local first_message, count = #names + 1, #ARGV - #names

local function is_at(head)
  return head.incarnation == arg.incarnation and digits(head.version) == arg.version
    and head.last_commit == arg.last_commit
end

-- The answer to a commit that took effect: now, or when it was first sent.
local function answer(head, past, replayed)
  return {
    'done', head.incarnation, past.version, past.created, past.contiguous, digits(past.first), digits(past.last),
    past.count, past.time, head.expires_at and digits(head.expires_at) or '', replayed, head.status,
    digits(head.created_at),
  }
end

local function owner_after(head)
  return given(arg.claim) or (head and head.user_id) or (not head and given(arg.owner)) or nil
end

local function add_mark(marks, floor, seq, leaves)
  local kept = {}
  for _, mark in ipairs(marks) do
    if mark[1] > floor then
      kept[#kept + 1] = mark
    end
  end
  if leaves then
    -- A clock that stepped back, or a shorter age, must not overtake older messages.
    kept[#kept + 1] = {seq, math.max(leaves, kept[1] and kept[#kept][2] or 0)}
  end
  if #kept > MAX_MARKS then
    local closest = 1
    for index = 2, #kept - 1 do
      if kept[index + 1][2] - kept[index][2] < kept[closest + 1][2] - kept[closest][2] then
        closest = index
      end
    end
    table.remove(kept, closest)
  end
  return kept
end

local function write_marks(marks)
  local texts = {}
  for index, mark in ipairs(marks) do
    texts[index] = digits(mark[1]) .. ':' .. digits(mark[2])
  end
  return table.concat(texts, ' ')
end

-- The head after the commit (`turnkeep.judge.next_head`).
local function next_head(head, now)
  local time = head and math.max(now, head.updated_at + 1) or now
  local last = head and head.last_seq or 0
  local after = {
    user_id = owner_after(head), incarnation = head and head.incarnation or arg.new_incarnation,
    version = head and head.version + 1 or 1, status = head and head.status or 'active',
    completed_at = head and head.completed_at, last_seq = last + count,
    floor = arg.drop_history == '1' and last or (head and head.floor or 0), base = head and head.base or 0,
    created_at = head and head.created_at or time, updated_at = time,
    last_message_at = count > 0 and digits(time) or (head and head.last_message_at),
    expires_at = arg.ttl ~= '' and now + tonumber(arg.ttl) or nil, bytes = head and head.bytes or 0,
  }
  if arg.status ~= '' then
    after.status = arg.status
    after.completed_at = given(arg.completed_at) or (arg.status == 'completed' and digits(time)) or nil
  end
  for _, name in ipairs({'agent_name', 'current_route', 'current_step'}) do
    local change = arg[name]
    if change == '' then
      after[name] = head and head[name]
    else
      after[name] = change ~= '-' and given(change) or nil
    end
  end
  return after
end

-- Removes the messages that are at or below the floor, and counts them out.
local function trim(after)
  local gone = after.floor - after.base
  if gone <= 0 then
    return
  end
  if after.floor == after.last_seq - count then
    redis.call('DEL', KEYS[2])
    after.bytes = 0
  else
    for _, item in ipairs(redis.call('LRANGE', KEYS[2], 0, digits(gone - 1))) do
      after.bytes = after.bytes - #item
    end
    redis.call('LTRIM', KEYS[2], digits(gone), -1)
  end
  after.base = after.floor
end

local function append(after)
  for start = first_message, #ARGV, CHUNK do
    redis.call('RPUSH', KEYS[2], unpack(ARGV, start, math.min(start + CHUNK - 1, #ARGV)))
  end
  for index = first_message, #ARGV do
    after.bytes = after.bytes + #ARGV[index]
  end
end

local function write_head(head, after, marks, past)
  local slot = 'commit@' .. digits(after.version % PAST_COMMITS)
  local forgotten = after.version > PAST_COMMITS and redis.call('HGET', KEYS[1], slot)
  local set, cleared = {
    'namespace', arg.namespace, 'session_id', arg.session_id, 'incarnation', after.incarnation,
    'version', digits(after.version), 'last_commit', arg.commit_id, 'status', after.status,
    'last_seq', digits(after.last_seq), 'floor', digits(after.floor), 'base', digits(after.base),
    'created_at', digits(after.created_at), 'updated_at', digits(after.updated_at), 'bytes', digits(after.bytes),
    slot, arg.commit_id, 'commit:' .. arg.commit_id, past,
  }, {}
  local optional = {
    user_id = after.user_id, agent_name = after.agent_name, current_route = after.current_route,
    current_step = after.current_step, last_message_at = after.last_message_at, completed_at = after.completed_at,
    expires_at = after.expires_at and digits(after.expires_at), marks = marks[1] and write_marks(marks),
    collected_data = given(arg.data) or (not head and '{}') or nil,
    state = given(arg.state) or (not head and '{}') or nil,
  }
  for name, value in pairs(optional) do
    set[#set + 1] = name
    set[#set + 1] = value
  end
  for _, name in ipairs({
    'user_id', 'agent_name', 'current_route', 'current_step', 'last_message_at', 'completed_at', 'expires_at', 'marks',
  }) do
    if not optional[name] and head and head[name] then
      cleared[#cleared + 1] = name
    end
  end
  if forgotten and forgotten ~= arg.commit_id then
    cleared[#cleared + 1] = 'commit:' .. forgotten
  end
  redis.call('HSET', KEYS[1], unpack(set))
  if cleared[1] then
    redis.call('HDEL', KEYS[1], unpack(cleared))
  end
end

-- One instant for all keys of the session. With a clock of the caller's Redis must not expire anything by its own.
local function write_expiry(head, after)
  if after.expires_at and arg.clock == '' then
    local instant = digits(math.ceil(after.expires_at / 1000))
    redis.call('PEXPIREAT', KEYS[1], instant)
    redis.call('PEXPIREAT', KEYS[2], instant)
  elseif head and head.expires_at then
    redis.call('PERSIST', KEYS[1])
    redis.call('PERSIST', KEYS[2])
  end
end

local function write_indexes(head, after, marks)
  if not KEYS[3] then
    return
  end
  local stays = head and head.status == after.status
  for first = 3, #KEYS, 5 do
    local sets = {KEYS[first], KEYS[first + 1], KEYS[first + 2], KEYS[first + 3]}
    set_entry(sets, arg.session_id, after.status, after.updated_at, after.created_at, stays)
  end
  local due = math.min(after.expires_at or math.huge, marks[1] and marks[1][2] or math.huge)
  if arg.due_before ~= '' then
    redis.call('ZREM', KEYS[7], arg.due_before)
  end
  if due < math.huge then
    redis.call('ZADD', KEYS[7], digits(due), arg.due)
  else
    redis.call('ZREM', KEYS[7], arg.due)
  end
end

local now = clock(arg.clock)
local head, _, damage = read_head(KEYS[1])
if damage then
  return {'corrupt', damage}
end
local marks = read_marks(head and head.marks)
if head then
  head.floor = floor_at(head, marks, now)
end
local live = is_live(head, now)
local visible = live and sees(arg.scope, head.user_id)

if visible then
  local text = redis.call('HGET', KEYS[1], 'commit:' .. arg.commit_id)
  if text then
    local past = read_past(text)
    if past.digest ~= arg.digest then
      return {'reused'}
    end
    -- The same call, sent again because its reply was lost, is answered as if it had not been lost.
    if past.call == arg.call then
      return answer(head, past, '0')
    end
    past.contiguous = '0'
    return answer(head, past, '1')
  end
end
if arg.expect == 'new' then
  if live then
    return {'exists'}
  end
elseif not visible then
  return {'absent', live and '1' or '0'}
elseif arg.expect == 'token' and not is_at(head) then
  return {'conflict', head.incarnation, digits(head.version), head.last_commit}
end

local replaced = head and not live
local previous_owner = replaced and head.user_id
if replaced then
  head, marks = nil, {}
end
local owner = owner_after(head)
if (owner or '') ~= (given(arg.owner) or '') then
  return {'owner', owner or ''}
end
damage = head and find_gap(KEYS[2], head)
if damage then
  return {'corrupt', damage}
end
if not head then
  redis.call('LLEN', KEYS[2])
end
for index = 3, #KEYS do
  redis.call('ZCARD', KEYS[index])
end

local contiguous = arg.expect ~= 'any' or is_at(head)
local after = next_head(head, now)
local leaves = arg.message_ttl ~= '' and count > 0 and now + tonumber(arg.message_ttl) or nil
marks = add_mark(marks, after.floor, after.last_seq, leaves)

redis.call('HSET', KEYS[1], 'session_id', arg.session_id)
if replaced or not head then
  redis.call('DEL', KEYS[1], KEYS[2])
end
trim(after)
append(after)
local past = {
  version = digits(after.version), created = head and '0' or '1', contiguous = contiguous and '1' or '0',
  first = count > 0 and after.last_seq - count + 1 or 0, last = count > 0 and after.last_seq or 0,
  count = digits(after.last_seq - after.floor), time = digits(after.updated_at),
}
write_head(head, after, marks, table.concat({
  past.version, past.created, past.contiguous, digits(past.first), digits(past.last), past.count, past.time, arg.call,
  arg.digest,
}, ' '))
write_expiry(head, after)
write_indexes(head, after, marks)
local done = answer(after, past, '0')
done[#done + 1] = previous_owner and '=' .. previous_owner or ''
return done
