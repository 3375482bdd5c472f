"""What Valkey does in one step, in Lua. Two keys a limit; every key carries the same hash tag, for clusters.

A rate is a hash (``due``, ``full``: `arkway.limits.bucket`), concurrency a set of leases by the moment they end, a
quota a hash (``spent``, ``reserved``) and a set of reservations that end as leases do. The server's clock is the only
one.
"""

from __future__ import annotations

_CLOCK = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local function text(number) return string.format('%.6f', number) end
local function field(key, name) return tonumber(redis.call('HGET', key, name) or '0') end
local function drop(key, set)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', set, '-inf', now)) do
    redis.call('HINCRBYFLOAT', key, 'reserved', '-' .. string.match(member, '|(.*)$'))
    redis.call('ZREM', set, member)
  end
end
local function take(key, cost)
  local due = field(key, 'due')
  if due <= now then
    due = now
    redis.call('HSET', key, 'full', text(now))
  end
  due = due + cost
  redis.call('HSET', key, 'due', text(due))
  redis.call('PEXPIRE', key, math.ceil((due - now) * 1000) + 600000)
end
"""

HOLD = (
    _CLOCK
    + """
local id, lease = ARGV[1], tonumber(ARGV[2])
local answer, refused = {text(now)}, false
for i = 1, #KEYS / 2 do
  local key, set, at = KEYS[2 * i - 1], KEYS[2 * i], 6 * i - 3
  local kind, shadow, a = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local b, c = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local said = 'o'
  if kind == 'rate' then
    local wait = math.max(field(key, 'due'), now) + math.min(a, b) - b - now
    if wait > 0.000001 then said = 'w' .. text(wait) end
  elseif kind == 'lease' then
    redis.call('ZREMRANGEBYSCORE', set, '-inf', now)
    if redis.call('ZCARD', set) >= a then said = 'w' end
  else
    drop(key, set)
    if c > field(key, 'spent') then redis.call('HSET', key, 'spent', ARGV[at + 4]) end
    local room = a - field(key, 'spent')
    if b > room + 0.000001 then
      said = 'x' .. text(math.max(0, room))
    elseif b > room - field(key, 'reserved') + 0.000001 then
      said = 'w'
    else
      said = 'o' .. text(a - room)
    end
  end
  if string.sub(said, 1, 1) ~= 'o' and shadow == '0' then refused = true end
  answer[i + 1] = said
end
if refused then return answer end
for i = 1, #KEYS / 2 do
  local key, set, at = KEYS[2 * i - 1], KEYS[2 * i], 6 * i - 3
  local kind, fits = ARGV[at], string.sub(answer[i + 1], 1, 1) == 'o'
  if kind == 'rate' and fits then
    take(key, tonumber(ARGV[at + 2]))
  elseif kind == 'lease' and fits then
    redis.call('ZADD', set, text(now + lease), id)
    redis.call('PEXPIRE', set, math.ceil(lease * 2000))
  elseif kind == 'quota' then
    redis.call('HINCRBYFLOAT', key, 'reserved', ARGV[at + 3])
    redis.call('ZADD', set, text(now + lease), id .. '|' .. ARGV[at + 3])
    redis.call('PEXPIRE', key, ARGV[at + 5])
    redis.call('PEXPIRE', set, ARGV[at + 5])
  end
end
return answer
"""
)
"""ARGV: hold id, lease in seconds; then for each limit its kind, 1 = shadow, and four numbers.

rate: cost and burst in seconds, 0, 0. lease: most, 0, 0, 0. quota: amount, wanted, spent by the ledger's word, and for
how many milliseconds to keep it. Answer: the time, and for each limit ``o`` (fits; with what is spent of a quota),
``w`` (later; with the seconds of a rate) or ``x`` (spent; with what is left).
"""

SETTLE = (
    _CLOCK
    + """
local id, again, taken = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
for i = 1, #KEYS / 2 do
  local key, set, at = KEYS[2 * i - 1], KEYS[2 * i], 3 * i + 1
  local kind, a = ARGV[at], tonumber(ARGV[at + 1])
  if kind == 'lease' then
    redis.call('ZREM', set, id)
  elseif kind == 'quota' then
    local held = redis.call('ZREM', set, id .. '|' .. ARGV[at + 1]) == 1
    if held then redis.call('HINCRBYFLOAT', key, 'reserved', -a) end
    if held or not again then redis.call('HINCRBYFLOAT', key, 'spent', ARGV[at + 2]) end
    if redis.call('ZCARD', set) == 0 then redis.call('HSET', key, 'reserved', '0') end
  elseif again then
    a = 0
  elseif a > 0 then
    take(key, a)
  elseif field(key, 'due') > now and field(key, 'full') <= taken + 0.000001 then
    redis.call('HSET', key, 'due', text(field(key, 'due') + a))
  end
end
return 0
"""
)
"""ARGV: hold id, 1 = it may have been settled already, when it was taken; for each limit its kind and two numbers.

rate: difference in seconds, 0. lease: 0, 0. quota: wanted (as it was said then), used.
"""

RENEW = (
    _CLOCK
    + """
local lease, kept = text(now + ARGV[1]), math.ceil(ARGV[1] * 2000)
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], 'XX', lease, ARGV[i + 1])
  if redis.call('PTTL', KEYS[i]) < kept then redis.call('PEXPIRE', KEYS[i], kept) end
end
return 0
"""
)
"""KEYS: sets; ARGV: lease in seconds, and the member of each set that goes on."""

ATTEND = (
    _CLOCK
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], text(now + ARGV[2]), ARGV[1])
return redis.call('ZCARD', KEYS[1])
"""
)
"""KEYS: the set of processes; ARGV: this process's id, for how many seconds it counts. Answer: how many there are."""
