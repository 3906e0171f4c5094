"""The one script that moves shares: whatever replicas do at the same time, it runs for one after the other.

What a replica says of itself is the truth, as it may hold shares that Valkey has forgotten; of the others the script
knows what they said last. It lends what is nobody's, and nothing while somebody may hold what it does not know of.
"""

from __future__ import annotations

from typing import Final

from plugins.security.limits.share import KEPT_S

LEASE_S: Final = 5.0
"""How long a share is good after a replica last spoke with Valkey. Slots of a killed replica are free after this."""

GAP_S: Final = 2.0
"""Nobody spoke for so long: Valkey was away. Under `LEASE_S` less a beat, so that nothing is dropped before its holder
could speak again."""

GRACE_S: Final = 2.0
"""With an empty memory, the time in which replicas that hold shares speak up: they ask four times a second."""

WINDOW_LIFE_S: Final = LEASE_S + KEPT_S + 2
"""A silent replica uses its share for a lease, and what it used counts for a window; reports are up to 1 s old."""

SLOTS_LIFE_S: Final = LEASE_S + 1

SETTLED_S: Final = WINDOW_LIFE_S + 1
"""After so long nobody can hold anything that Valkey does not know of but what everybody is left with alone."""

KEEP_S: Final = 600
"""Of what is in Valkey, after it was last spoken of."""

PREFIX: Final = "{wattos:limits}"
"""One hash tag: a script may touch keys of one slot alone."""

EPOCH_KEY: Final = f"{PREFIX}:epoch"
HOLDERS_KEY: Final = f"{PREFIX}:holders"

OK: Final = 0
STALE: Final = 1
"""The message was too old when it was read, or overtaken: nothing was done."""

N_HEAD, N_ANSWER = 6, 4
"""Numbers of a reply before its limits, and of each of them."""

EXCHANGE: Final = (
    """
-- KEYS: epoch, holders, limits…  ARGV: clock, holder, sequence, valid until, the epoch it knows of, how many replicas
-- there are in it, how many may hold something since before it, and if it is over, epoch told in whole, farewell; then
-- for each limit: limit, held, used, wanted, life of the record
local function number(text) return tonumber(text) or 0 end
local function text(n) return string.format('%.0f', n) end
local now
if ARGV[1] == 'server' then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
else
  now = tonumber(ARGV[1])
end
local me, sequence, heard_epoch, heard_n = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local whole, leaving = tonumber(ARGV[9]), ARGV[10] == '1'
if now > tonumber(ARGV[4]) then return {1, now, 0, 0, 0, 0} end

-- an epoch is a time in which Valkey was there, and forgot nothing
local e = redis.call('HMGET', KEYS[1], 'since', 'last', 'needed', 'open', 'n', 'grace')
local since, needed, open, grace = number(e[1]), number(e[3]), e[4] == '1', number(e[6])
if not e[1] or math.abs(now - number(e[2])) > GAP then
  grace = GRACE
  if open then needed, grace = number(e[5]), 0 end -- else those who were needed before still are
  since, open = now, false
end
local peers = tonumber(heard_epoch == since and ARGV[7] or ARGV[8])
if peers > needed then needed = peers end

-- replicas: when each last spoke, with which number, how many it knows of, and the epoch that it told in whole
local n, known_to_all, reported, its_whole = 0, true, 0, 0
local records, others = redis.call('HGETALL', KEYS[2]), {}
for i = 1, #records, 2 do
  local heard, its_sequence, its_n, its_epoch = string.match(records[i + 1], '(%S+) (%S+) (%S+) (%S+)')
  if records[i] == me then
    if sequence <= tonumber(its_sequence) then return {1, now, 0, 0, 0, 0} end
    its_whole = tonumber(its_epoch)
  elseif now - tonumber(heard) > WINDOW_LIFE then
    redis.call('HDEL', KEYS[2], records[i])
  else
    n = n + 1
    others[#others + 1] = tonumber(its_n)
    if tonumber(its_epoch) == since then reported = reported + 1 end
  end
end
if leaving then
  redis.call('HDEL', KEYS[2], me)
else
  n = n + 1
  for _, its_n in ipairs(others) do
    if its_n < n then known_to_all = false end
  end
  if whole == since then its_whole = since end
  if its_whole == since then reported = reported + 1 end
  redis.call('HSET', KEYS[2], me, text(now) .. ' ' .. text(sequence) .. ' ' .. text(heard_n) .. ' ' .. text(its_whole))
  redis.call('PEXPIRE', KEYS[2], KEEP)
end
if not open and (now - since >= SETTLED or (reported >= needed and now - since >= grace)) then open = true end
redis.call('HSET', KEYS[1], 'since', text(since), 'last', text(now), 'needed', text(needed),
  'open', open and '1' or '0', 'n', text(n), 'grace', text(grace))
redis.call('PEXPIRE', KEYS[1], KEEP)

local reply = {0, now, n, known_to_all and 1 or 0, open and since or -since, needed}
for k = 3, #KEYS do
  local at = 10 + (k - 3) * 5
  local limit, held, used = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local wanted, life = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local lent, idle, unmet = 0, 0, 0
  local shares = redis.call('HGETALL', KEYS[k])
  for i = 1, #shares, 2 do
    if shares[i] ~= me then
      local share, its_used, its_unmet, heard, its_life = string.match(shares[i + 1], '(%S+) (%S+) (%S+) (%S+) (%S+)')
      if now - tonumber(heard) > tonumber(its_life) then
        redis.call('HDEL', KEYS[k], shares[i])
      else
        lent = lent + tonumber(share)
        idle = idle + math.max(0, tonumber(share) - tonumber(its_used))
        if now - tonumber(heard) < RECENT then unmet = unmet + tonumber(its_unmet) end
      end
    end
  end
  local granted = held
  local free = limit - lent - held
  if wanted > held and open and free > 0 then granted = held + math.min(wanted - held, free) end
  local mine_unmet = math.max(0, wanted - granted)
  if granted > 0 or mine_unmet > 0 then
    redis.call('HSET', KEYS[k], me,
      text(granted) .. ' ' .. text(used) .. ' ' .. text(mine_unmet) .. ' ' .. text(now) .. ' ' .. text(life))
    redis.call('PEXPIRE', KEYS[k], KEEP)
  else
    redis.call('HDEL', KEYS[k], me)
  end
  reply[#reply + 1] = granted
  reply[#reply + 1] = limit - lent - granted
  reply[#reply + 1] = idle
  reply[#reply + 1] = unmet
end
return reply
""".replace("WINDOW_LIFE", str(round(WINDOW_LIFE_S * 1000)))
    .replace("SETTLED", str(round(SETTLED_S * 1000)))
    .replace("GAP", str(round(GAP_S * 1000)))
    .replace("GRACE", str(round(GRACE_S * 1000)))
    .replace("KEEP", str(KEEP_S * 1000))
    .replace("RECENT", "1000")
)
