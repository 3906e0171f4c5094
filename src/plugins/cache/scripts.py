"""What Valkey runs for the cache. A script is one round trip, and nothing happens in between.

Keys, under `PREFIX`: `e:<key>` an entry, `l:<key>` the lock of who produces it, `t:<tag>` when a tag was dropped last,
`state` the epoch and the number of drops in it, `log` the last dropped tags, newest first.

An entry (a hash) is `v` value, `f` milliseconds of its life in which it is stale, `g` its tags with a space between,
`e` and `s` the epoch and the number of drops when its making began. It holds if the epoch is still that one and none of
its tags was dropped with a higher number. So what was made before a drop is never given after it, whoever sets it when;
and whoever loses the state (a restart, an eviction) loses all that has tags, not the drops.
"""

from __future__ import annotations

from typing import Final

from plugins.cache.envelope import FORMAT

PREFIX: Final = f"{{wattos:cache:{FORMAT}}}:"
"""One hash tag: a script may touch keys of one slot alone."""

LOG_LENGTH: Final = 1000
"""Drops that replicas may be behind; one that is further behind forgets all that has tags."""

_CURRENT: Final = """
local function is_current(entry, state_key, tags_prefix)
  if not (entry[1] and entry[2] and entry[3] and entry[4] and entry[5]) then return false end
  if entry[3] == '' then return true end
  if entry[4] ~= redis.call('HGET', state_key, 'epoch') then return false end
  for tag in string.gmatch(entry[3], '%S+') do
    local dropped = redis.call('GET', tags_prefix .. tag)
    if dropped and tonumber(dropped) > tonumber(entry[5]) then return false end
  end
  return true
end
"""

_STATE: Final = """
local function state_of(key, new_epoch)
  local state = redis.call('HMGET', key, 'epoch', 'seq')
  if state[1] then return state[1], state[2] or '0' end
  redis.call('HSET', key, 'epoch', new_epoch, 'seq', '0')
  return new_epoch, '0'
end
"""

GET: Final = (
    """#!lua flags=no-writes
-- KEYS: state, entries…  ARGV: longest value, tags' prefix, enough bytes
-- → for each entry value, ms to live, of them stale, tags, or nothing; fewer than asked for, once there is enough
"""
    + _CURRENT
    + """
local found, n_bytes = {}, 0
for i = 2, #KEYS do
  local entry = redis.pcall('HMGET', KEYS[i], 'v', 'f', 'g', 'e', 's')
  if is_current(entry, KEYS[1], ARGV[2]) and #entry[1] <= tonumber(ARGV[1]) then
    found[i - 1] = {entry[1], redis.call('PTTL', KEYS[i]), entry[2], entry[3]}
    n_bytes = n_bytes + #entry[1]
  else
    found[i - 1] = {}
  end
  if n_bytes >= tonumber(ARGV[3]) then break end
end
return found
"""
)

BEGIN: Final = (
    """#!lua flags=allow-oom
-- KEYS: state, then for each entry: entry, lock  ARGV: longest value, tags' prefix, enough bytes, lease in ms, a new
-- epoch, then for each: token, stale will do
-- → epoch, number of drops, then for each whether we are to produce, and as GET, if it is there; fewer than asked for,
-- once there is enough
"""
    + _CURRENT
    + _STATE
    + """
local epoch, seq = state_of(KEYS[1], ARGV[5])
local turns, n_bytes = {epoch, seq}, 0
for i = 2, #KEYS, 2 do
  local entry = redis.pcall('HMGET', KEYS[i], 'v', 'f', 'g', 'e', 's')
  local turn
  if is_current(entry, KEYS[1], ARGV[2]) and #entry[1] <= tonumber(ARGV[1]) then
    local ttl = redis.call('PTTL', KEYS[i])
    if ARGV[i + 5] == '1' or ttl > tonumber(entry[2]) then
      turn = {0, entry[1], ttl, entry[2], entry[3]}
      n_bytes = n_bytes + #entry[1]
    end
  end
  if not turn then turn = {redis.call('SET', KEYS[i + 1], ARGV[i + 4], 'NX', 'PX', ARGV[4]) and 1 or 0} end
  turns[#turns + 1] = turn
  if n_bytes >= tonumber(ARGV[3]) then break end
end
return turns
"""
)

SET: Final = (
    """#!lua
-- KEYS: state, then for each entry: entry, lock  ARGV: a new epoch, then for each: value, ms to live, of them stale,
-- tags, epoch and number of drops when its making began (none: now), token of the lock to give back
"""
    + _STATE
    + """
for i = 2, #KEYS, 2 do
  local at = 2 + (i - 2) / 2 * 7
  local epoch, seq = ARGV[at + 4], ARGV[at + 5]
  if epoch == '' then epoch, seq = state_of(KEYS[1], ARGV[1]) end
  redis.call('DEL', KEYS[i])
  redis.call('HSET', KEYS[i], 'v', ARGV[at], 'f', ARGV[at + 2], 'g', ARGV[at + 3], 'e', epoch, 's', seq)
  redis.call('PEXPIRE', KEYS[i], ARGV[at + 1])
  local token = ARGV[at + 6]
  if token ~= '' and redis.call('GET', KEYS[i + 1]) == token then redis.call('DEL', KEYS[i + 1]) end
end
return 1
"""
)

FORGET: Final = """#!lua flags=allow-oom
-- KEYS: entries…
return redis.call('UNLINK', unpack(KEYS))
"""

RENEW: Final = """#!lua flags=allow-oom
-- KEYS: lock  ARGV: token, lease in ms; 0: given back
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

DROP: Final = (
    """#!lua flags=allow-oom
-- KEYS: state, log  ARGV: a new epoch, how long a drop is remembered in ms, tags' prefix, length of the log, tags…
"""
    + _STATE
    + """
state_of(KEYS[1], ARGV[1])
for i = 5, #ARGV do
  redis.call('SET', ARGV[3] .. ARGV[i], redis.call('HINCRBY', KEYS[1], 'seq', 1), 'PX', ARGV[2])
  redis.call('LPUSH', KEYS[2], ARGV[i])
end
redis.call('LTRIM', KEYS[2], 0, ARGV[4] - 1)
return 1
"""
)

RESET: Final = """#!lua flags=allow-oom
-- KEYS: state, log. Nothing holds any more that has tags.
return redis.call('DEL', KEYS[1], KEYS[2])
"""

NEWS: Final = r"""#!lua flags=no-writes
-- KEYS: state, log  ARGV: epoch and number of drops that the asker knows
-- → epoch, number, whether it missed something, else the tags dropped since; used and most memory (0: no bound)
local function memory()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return 0, 0 end
  return tonumber(string.match(info, '[\r\n]used_memory:(%d+)')), tonumber(string.match(info, '[\r\n]maxmemory:(%d+)'))
end
local used, most = memory()
local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq')
local epoch, seq = state[1] or '', tonumber(state[2] or '0')
local n = seq - tonumber(ARGV[2])
local missed = (ARGV[1] ~= epoch and ARGV[1] ~= '') or n < 0 or n > redis.call('LLEN', KEYS[2])
local tags = {}
if n > 0 and not missed then tags = redis.call('LRANGE', KEYS[2], 0, n - 1) end
return {epoch, seq, missed and 1 or 0, tags, used, most}
"""
