"""What breakers of all replicas tell each other through Valkey, about once a second. Nothing waits for it.

Two records a dependency, each a register in which the latest writer wins, by the server's clock: how it last settled
(opened, closed) by some replica's outcomes, and what an operator last said. A replica writes what it knows better than
the record, and follows what the record knows better. So nothing needs to be delivered: a Valkey that was away, frozen
or emptied is told again, by whoever still knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, NamedTuple, cast

from plugins.contract.errors import RetryableError
from plugins.contract.ports import SharedState
from plugins.resilience.breaker import Breaker
from plugins.resilience.circuits import Circuits

logger = logging.getLogger("resilience")

PREFIX: Final = "{wattos:breakers}"
EVERY_S: Final = 1.0
"""A replica learns within about this what another saw; by itself it would after five failures of its own."""

JITTER: Final = 0.2
"""So that replicas that were started together do not ask together."""

CLOCK_SET_MS: Final = 1_000
"""The server's clock was set, or another server answers: when things were is reckoned anew. Clocks that are only
corrected, and slow answers, stay below."""

LIFE_S: Final = 30 * 86_400
"""How long Valkey remembers what operators said while no replica runs."""

OWN: Final = frozenset({"postgres", "valkey", "embedder"})
"""Dependencies that each process has a way of its own to: that one cannot reach them says nothing of the others."""

EXCHANGE: Final = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV, 5 do
  local key, name, at_ms = KEYS[tonumber(ARGV[i])], ARGV[i + 1], math.min(tonumber(ARGV[i + 2]), now_ms)
  local held = redis.call('HGET', key, name)
  local held_at_ms = held and tonumber(string.match(held, '^%d+'))
  if not held or held_at_ms < at_ms or held_at_ms > now_ms then
    redis.call('HSET', key, name, string.format('%.0f %s %s', at_ms, ARGV[i + 3], ARGV[i + 4]))
  end
end
local settled = redis.call('HGETALL', KEYS[1])
for i = 1, #settled, 2 do
  if tonumber(string.match(settled[i + 1], '%d+$')) < now_ms then redis.call('HDEL', KEYS[1], settled[i]) end
end
for i = 1, 2 do redis.call('PEXPIRE', KEYS[i], ARGV[1]) end
return {now_ms, settled, redis.call('HGETALL', KEYS[2])}
"""
"""KEYS: how they settled, what operators said. ARGV: their life in ms; then by fives: which of the two, name, when,
what, until when it says something. Returns the server's time, and both. What is of the future, since the server's clock
was set back, loses to all that is told."""

KEYS: Final = (f"{PREFIX}:settled", f"{PREFIX}:forced")
_SETTLED, _FORCED = 1, 2
_FOR_EVER = 0
Value = Literal["open", "closed", "none"]
_VALUES: Final[Mapping[str, Value]] = {"open": "open", "closed": "closed", "none": "none"}


class Record(NamedTuple):
    """Times are the server's epoch milliseconds."""

    at_ms: int
    value: Value
    until_ms: int


_AT_FIRST: Final = {_SETTLED: "closed", _FORCED: "none"}
"""What every breaker is without being told."""

_NEVER = Record(-1, "none", 0)


class _Told(NamedTuple):
    """Which record a local event is, so that it is the same one whenever it is told: clocks drift."""

    at_s: float
    at_ms: int


class Sharing:
    """Speaks for one replica. One exchange at a time."""

    def __init__(
        self,
        circuits: Circuits,
        shared: SharedState,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """`clock`: that of the breakers."""
        self._circuits = circuits
        self._shared = shared
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self._ahead_ms: float | None = None
        """The server's clock minus ours."""
        self._records: dict[int, dict[str, Record]] = {_SETTLED: {}, _FORCED: {}}
        """As last read."""
        self._told: dict[int, dict[str, _Told]] = {_SETTLED: {}, _FORCED: {}}

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            # Valkey is away: its health check says so, and the next exchange tells all that is not told yet.
            try:
                with contextlib.suppress(RetryableError):
                    await self.exchange()
            except Exception:  # a bug must not end the sharing for good
                logger.exception("breakers cannot be shared")
            await self._sleep(EVERY_S * (1 + JITTER * (2 * self._uniform() - 1)))

    async def exchange(self) -> None:
        """Tell and hear once. Raises: RetryableError."""
        news = [] if self._ahead_ms is None else self._news(self._ahead_ms)
        sent_at_s = self._clock()
        reply = await self._shared.run(EXCHANGE, KEYS, (LIFE_S * 1000, *news))
        try:
            now_ms, settled, forced = reply
            now_ms = _number(now_ms)
            records = {_SETTLED: _records(settled, now_ms), _FORCED: _records(forced, now_ms)}
        except (ValueError, KeyError):
            raise RetryableError("Valkey answers something else than it was asked") from None
        # In the middle of the way, as nothing is known of its two halves.
        ahead_ms = now_ms - (sent_at_s + self._clock()) / 2 * 1000
        if self._ahead_ms is not None and abs(ahead_ms - self._ahead_ms) > CLOCK_SET_MS:
            self._told = {_SETTLED: {}, _FORCED: {}}
        self._ahead_ms = ahead_ms
        self._records = records
        self._follow(ahead_ms)

    def _news(self, ahead_ms: float) -> list[str | int]:
        """What we know better than the records do."""
        news: list[str | int] = []
        for name, breaker in self._circuits.known.items():
            if name in OWN:
                continue
            for which, record in (
                (_SETTLED, self._settled(breaker, ahead_ms)),
                (_FORCED, self._said(breaker, ahead_ms)),
            ):
                if record is not None and record.at_ms > self._records[which].get(name, _NEVER).at_ms:
                    news += (which, name, *record)
        return news

    def _settled(self, breaker: Breaker, ahead_ms: float) -> Record | None:
        """None: nothing that another could want to know."""
        at_ms = self._at_ms(_SETTLED, breaker, ahead_ms)
        if breaker.forced is not None or at_ms is None:
            return None
        if breaker.state == "open" and breaker.open_until_s > self._clock():
            return Record(at_ms, "open", round(breaker.open_until_s * 1000 + ahead_ms))
        recorded = self._records[_SETTLED].get(breaker.name, _NEVER).value
        # An operator's reset is told in any case: somebody may be half-open, of which there is no record.
        since_s = self._clock() - breaker.policy.reset_timeout_s
        is_reset = breaker.settled_at_s == breaker.forced_at_s and breaker.forced_at_s > since_s
        if breaker.state == "closed" and (is_reset or recorded == "open"):
            # Kept as long as any opening of before could still be told.
            return Record(at_ms, "closed", at_ms + round(breaker.policy.reset_timeout_s * 1000))
        return None

    def _said(self, breaker: Breaker, ahead_ms: float) -> Record | None:
        at_ms = self._at_ms(_FORCED, breaker, ahead_ms)
        return None if at_ms is None else Record(at_ms, breaker.forced or "none", _FOR_EVER)

    def _at_ms(self, which: int, breaker: Breaker, ahead_ms: float) -> int | None:
        """When that was, as it was and will be told; None: never."""
        at_s = _local_time(which, breaker)
        if not math.isfinite(at_s):
            return None
        told = self._told[which].get(breaker.name)
        if told is None or told.at_s != at_s:
            told = self._told[which][breaker.name] = _Told(at_s, round(at_s * 1000 + ahead_ms))
        return told.at_ms

    def _follow(self, ahead_ms: float) -> None:
        for which, records in self._records.items():
            for name, record in records.items():
                if name in OWN or (name not in self._circuits.known and record.value == _AT_FIRST[which]):
                    continue
                breaker = self._circuits.of(name)
                ours_ms = self._at_ms(which, breaker, ahead_ms)
                if ours_ms is None or record.at_ms > ours_ms:
                    at_s = (record.at_ms - ahead_ms) / 1000
                    if which == _FORCED:  # of the two orders, the server's counts: all must agree in the end
                        at_s = max(at_s, math.nextafter(breaker.forced_at_s, math.inf))
                        breaker.follow_forced(None if record.value == "none" else record.value, at_s=at_s)
                    elif record.value == "open":
                        breaker.follow_open(at_s=at_s, until_s=(record.until_ms - ahead_ms) / 1000)
                    else:
                        breaker.follow_closed(at_s=at_s)
                    if _local_time(which, breaker) == at_s:
                        self._told[which][name] = _Told(at_s, record.at_ms)


def _local_time(which: int, breaker: Breaker) -> float:
    return breaker.settled_at_s if which == _SETTLED else breaker.forced_at_s


def _records(reply: object, now_ms: int) -> dict[str, Record]:
    """By name. Raises: ValueError."""
    if not isinstance(reply, list):
        raise ValueError(reply)  # noqa: TRY004  # one kind for all that cannot be read
    texts = [_text(one) for one in cast("list[object]", reply)]
    found: dict[str, Record] = {}
    for name, text in zip(texts[::2], texts[1::2], strict=True):
        at_ms, value, until_ms = text.split(" ")
        if int(at_ms) <= now_ms:  # else the server's clock was set back since
            found[name] = Record(int(at_ms), _VALUES[value], int(until_ms))
    return found


def _text(reply: object) -> str:
    if not isinstance(reply, bytes):
        raise ValueError(reply)  # noqa: TRY004
    return reply.decode()


def _number(reply: object) -> int:
    if not isinstance(reply, int):
        raise ValueError(reply)  # noqa: TRY004
    return reply
