"""The cache's second level: entries in Valkey, for all replicas. Its errors are misses, and nobody waits for it twice.

After a failure it is left alone until a beat in the background, once a second, was answered: see `layered`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import msgspec
from valkey.exceptions import ResponseError

from plugins.cache.address import Address
from plugins.cache.batches import MAX_BYTES, Batches
from plugins.cache.envelope import packed, unpacked
from plugins.cache.scripts import (
    BEGIN,
    DROP,
    FORGET,
    GET,
    LOG_LENGTH,
    NEWS,
    PREFIX,
    RENEW,
    RESET,
    SET,
)
from plugins.cache.shared import Text, ValkeyState, Word
from plugins.contract.errors import RetryableError
from plugins.contract.nulls import NullGuard, NullMeter
from plugins.contract.ports import Guard, Meter, SlowLog

MAX_TTL_S: Final = 30 * 86_400.0
"""Nothing stays in Valkey for longer, so that a drop need not be remembered for ever."""

DROP_REMEMBERED_S: Final = MAX_TTL_S + 86_400
"""A day over all that may have been made before it."""

LEASE_S: Final = 3.0
"""Of who produces, renewed three times as often: one that was killed holds up the others for so long at most."""

MOST_USED: Final = 0.8
"""Of Valkey's `maxmemory`; with more in use nothing is added, as limits and breakers need room, too. As it was at the
last beat: the rest is for what a second adds."""

NAME: Final = "valkey"
"""Of its breaker: the same server as the health check's of this name."""

_STATE, _LOG, _TAGS = f"{PREFIX}state", f"{PREFIX}log", f"{PREFIX}t:"


class SharedEntry(msgspec.Struct, frozen=True, kw_only=True):
    value: bytes
    fresh_s: float
    """What is left of its time; stale: not over 0."""
    stale_s: float
    """After that."""
    tags: tuple[str, ...]


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Whose it is to produce a value: ours, or another replica's."""

    is_ours: bool
    token: str
    epoch: bytes
    n_drops: bytes
    """Both as they were when the turn was asked for: what is made now holds unless a tag is dropped after that."""
    found: SharedEntry | None


class News(msgspec.Struct, frozen=True, kw_only=True):
    epoch: bytes = b""
    n_drops: int = -1
    """Of this epoch; −1: never heard."""
    missed: bool = True
    """Something was dropped that is not in `tags`."""
    tags: tuple[str, ...] = ()


class _Set(NamedTuple):
    key: str
    said: Sequence[Word]
    """To the script, of this entry."""
    n_bytes: int


class _Begin(NamedTuple):
    key: str
    token: str
    stale_will_do: bool


class ValkeyLevel:
    """For one event loop. Tags are as `tag_keys` makes them."""

    def __init__(self, address: Address, *, timeout_s: float, max_entry_bytes: int, compress_above_bytes: int) -> None:
        # A client of its own: many long values at once do not hold up the exchange of limits.
        self._valkey = ValkeyState(address, timeout_s=timeout_s, operation="cache")
        self._max_entry_bytes = max_entry_bytes
        self._compress_above_bytes = compress_above_bytes
        self._guard: Guard = NullGuard()
        self._gets = Batches(self._got, lambda _: 0)
        self._begins = Batches(self._begun, lambda _: 0)
        self._sets = Batches(self._stored, lambda entry: entry.n_bytes)
        self.is_away = True
        """Until the first beat."""
        self._has_room = True
        self._count(NullMeter())

    def observe_with(self, meter: Meter, slow_log: SlowLog, guard: Guard) -> None:
        self._valkey.observe_with(meter, slow_log)
        self._guard = guard
        self._count(meter)

    async def get(self, key: str) -> SharedEntry | None:
        """With all that are asked for in this turn of the loop."""
        if self.is_away:
            return None
        reply = await self._gets.call(key)
        entry = None if reply is None else await self._entry(reply)
        if reply is not None:
            self._operations.add(1, "get", "hit" if entry else "miss")
        return entry

    async def begin(self, key: str, token: str, *, stale_will_do: bool) -> Turn | None:
        """What is there, else a turn, ours or another's. None: it cannot be asked, or gives none."""
        if self.is_away:
            return None
        reply = await self._begins.call(_Begin(key, token, stale_will_do))
        if reply is None:
            return None
        epoch, n_drops, (is_ours, *entry) = cast("tuple[bytes, bytes, list[object]]", reply)
        found = await self._entry(entry)
        if entry and found is None:  # not to be read by this release: nobody would ever be asked to replace it
            await self.forget(key)
        self._operations.add(1, "get", "hit" if found else "miss")
        return Turn(is_ours=bool(is_ours), token=token, epoch=epoch, n_drops=n_drops, found=found)

    async def set(
        self, key: str, value: bytes, *, ttl_s: float, stale_s: float, tags: Sequence[str], turn: Turn | None = None
    ) -> None:
        """`turn`: in which it was made, given back with it. None: it is as new as the tags' last drop."""
        if self.is_away:
            return
        is_fit = len(value) <= self._max_entry_bytes and ttl_s > 0
        if not (is_fit and self._has_room):
            if is_fit:
                self._operations.add(1, "set", "no_room")
            await self.forget(key)
            if turn is not None and turn.is_ours:
                await self.give_back(key, turn.token)
            return
        data = await packed(value, compress_above_bytes=self._compress_above_bytes)
        life_ms = max(1, int(min(ttl_s + stale_s, MAX_TTL_S) * 1000))
        made: list[Word] = [turn.epoch, turn.n_drops, turn.token] if turn else ["", "", ""]
        said: list[Word] = [data, life_ms, int(stale_s * 1000), " ".join(tags), *made]
        if await self._sets.call(_Set(key=key, said=said, n_bytes=len(data))):
            self._operations.add(1, "set", "stored")
        elif turn is not None and turn.is_ours:
            await self.give_back(key, turn.token)

    async def forget(self, *keys: str) -> None:
        await self._asked("set", FORGET, [_name("e", key) for key in keys], [])

    async def renew(self, key: str, turn: Turn) -> None:
        await self._asked("lock", RENEW, [_name("l", key)], [turn.token, int(LEASE_S * 1000)])

    async def give_back(self, key: str, token: str) -> None:
        """A turn, also one that is just being given."""
        await self._begins.settle()
        await self._asked("lock", RENEW, [_name("l", key)], [token, 0])

    async def drop(self, tags: Sequence[str]) -> bool:
        """Whether Valkey knows of it now."""
        return await self._asked("drop", DROP, [_STATE, _LOG], _dropping(tags)) is not None

    async def tell(self, tags: Sequence[str] | None) -> bool:
        """As `drop`, left alone or not. None: whatever has tags. Raises: RetryableError."""
        script, said = (RESET, ()) if tags is None else (DROP, _dropping(tags))
        return await self._answered("drop", script, [_STATE, _LOG], said) is not None

    async def hear(self, known: News) -> News:
        """What was dropped since, left alone or not. Raises: RetryableError."""
        asked: list[Word] = [known.epoch, known.n_drops] if known.n_drops >= 0 else ["-", 0]
        reply = await self._answered("news", NEWS, [_STATE, _LOG], asked)
        if reply is None:
            raise RetryableError("Valkey refused the script")
        epoch, n_drops, missed, tags, used, most = cast("tuple[bytes, int, int, list[bytes], int, int]", reply)
        self._has_room = not most or used < MOST_USED * most
        return News(epoch=epoch, n_drops=n_drops, missed=bool(missed), tags=tuple(tag.decode() for tag in tags))

    def recovered(self) -> None:
        self.is_away = False
        self._guard.recovered(NAME)

    async def close(self) -> None:
        self.is_away = True
        await asyncio.gather(self._gets.settle(), self._begins.settle(), self._sets.settle())
        await self._valkey.close()

    async def _got(self, keys: Sequence[str]) -> Sequence[Sequence[object] | None]:
        """None for those that could not be asked for."""
        found: list[Sequence[object] | None] = []
        while len(found) < len(keys):
            names: list[Text] = [_STATE, *(_name("e", key) for key in keys[len(found) :])]
            reply = await self._asked("get", GET, names, [self._max_packed_bytes, _TAGS, MAX_BYTES])
            if not reply:
                return [*found, *[None] * (len(keys) - len(found))]
            found.extend(cast("Sequence[Sequence[object]]", reply))
        return found

    async def _begun(self, asked: Sequence[_Begin]) -> Sequence[Sequence[object] | None]:
        """Each with the epoch and the number of drops. None for those that could not be asked for."""
        found: list[Sequence[object] | None] = []
        while len(found) < len(asked):
            names: list[Text] = [_STATE]
            said: list[Word] = [self._max_packed_bytes, _TAGS, MAX_BYTES, int(LEASE_S * 1000), secrets.token_hex(8)]
            for one in asked[len(found) :]:
                names += _name("e", one.key), _name("l", one.key)
                said += one.token, int(one.stale_will_do)
            reply = await self._asked("get", BEGIN, names, said)
            if not reply:
                return [*found, *[None] * (len(asked) - len(found))]
            found.extend((*reply[:2], turn) for turn in reply[2:])
        return found

    async def _stored(self, entries: Sequence[_Set]) -> Sequence[bool]:
        """All or none."""
        names: list[Text] = [_STATE]
        said: list[Word] = [secrets.token_hex(8)]
        for entry in entries:
            names += _name("e", entry.key), _name("l", entry.key)
            said += entry.said
        is_stored = await self._asked("set", SET, names, said) is not None
        if not is_stored:
            # Full, most likely. What they replace must not be given either.
            await self.forget(*(entry.key for entry in entries))
        return [is_stored] * len(entries)

    @property
    def _max_packed_bytes(self) -> int:
        return self._max_entry_bytes + 64  # of the header

    async def _asked(
        self, operation: str, script: str, keys: Sequence[Text], arguments: Sequence[Word]
    ) -> Sequence[object] | None:
        """None when it is away, or refuses."""
        if self.is_away:
            return None
        try:
            return await self._guard.call(NAME, lambda: self._answered(operation, script, keys, arguments), retry=False)
        except RetryableError:
            self.is_away = True
            return None

    async def _answered(
        self, operation: str, script: str, keys: Sequence[Text], arguments: Sequence[Word]
    ) -> Sequence[object] | None:
        """None when it refuses: it is full, a replica, or we may not. Raises: RetryableError when it is away."""
        try:
            return await self._valkey.run(script, keys, arguments)
        except RetryableError as exc:
            self._operations.add(1, operation, "failed")
            if isinstance(exc.__cause__, ResponseError):
                return None
            raise

    async def _entry(self, reply: Sequence[object]) -> SharedEntry | None:
        if not reply:
            return None
        data, life_ms, stale_ms, tags = cast("tuple[bytes, int, bytes, bytes]", reply)
        value = await unpacked(data, max_bytes=self._max_entry_bytes)
        if value is None:
            return None
        stale_s = int(stale_ms) / 1000
        return SharedEntry(
            value=value, fresh_s=life_ms / 1000 - stale_s, stale_s=stale_s, tags=tuple(tags.decode().split())
        )

    def _count(self, meter: Meter) -> None:
        self._operations = meter.counter(
            "cache_valkey_operations_total",
            "What the cache asked of Valkey: get hit or miss, set stored or no_room (over 80 %"
            " of its maxmemory is in use); get, set, lock, drop and news that failed.",
            ("operation", "result"),
        )


def _name(kind: str, key: str) -> bytes:
    return f"{PREFIX}{kind}:{key}".encode("utf-8", "surrogatepass")


def _dropping(tags: Sequence[str]) -> list[Word]:
    return [secrets.token_hex(8), int(DROP_REMEMBERED_S * 1000), _TAGS, LOG_LENGTH, *tags]
