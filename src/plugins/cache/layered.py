"""The `Cache` port in two levels: this process's memory, and behind it Valkey, which all replicas share.

Memory answers what it has. What it has not is asked of Valkey, and kept in memory for the rest of its time. Drops of
other replicas are heard of once a second. While Valkey is away, memory is all there is, at no extra cost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from functools import partial
from typing import Final

import msgspec

from plugins.cache.drops import Drops
from plugins.cache.flights import Flight, Flights
from plugins.cache.hung import Hung
from plugins.cache.keys import create_key, tag_key, tag_keys
from plugins.cache.memory import MemoryCache, operations_of
from plugins.cache.valkey_level import LEASE_S, SharedEntry, Turn, ValkeyLevel
from plugins.contract.nulls import NullMeter
from plugins.contract.ports import Guard, Meter, SlowLog
from plugins.contract.principal import TenantId

LOG = logging.getLogger(__name__)

BEAT_S: Final = 1.0
"""Between two beats: for so long another replica's drop may go unheard, and a Valkey that is back unused."""

WAIT_S: Final = 10.0
"""For what another replica produces; then we produce it, too: its producer may hang while its lease is renewed."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.1
"""Between looking whether it is there: doubled each time. A tenth of a second more is little to what took longer."""


class Making(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What to do on a miss, and what to do with its result."""

    key: str
    produce: Callable[[], Awaitable[bytes]]
    ttl_s: float
    stale_s: float
    tags: tuple[str, ...]


class LayeredCache:
    """For one event loop. `keep_up` must run beside it: before its first beat there is only memory."""

    def __init__(
        self,
        memory: MemoryCache,
        valkey: ValkeyLevel,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._memory = memory
        self._valkey = valkey
        self._clock = clock
        self._sleep = sleep
        self._flights = Flights()
        self._drops = Drops(valkey, self._dropped)
        self._errands: set[asyncio.Task[None]] = set()
        self._turns: dict[str, tuple[str, Turn]] = {}
        """By token, each with its key: what is being produced here."""
        self._renewing: asyncio.Task[None] | None = None
        self._hung = Hung(clock)
        self._operations = operations_of(NullMeter())

    def observe_with(self, meter: Meter, slow_log: SlowLog, guard: Guard) -> None:
        """The cache is given before these are known; operations before this are not counted."""
        self._operations = operations_of(meter)
        self._memory.observe_with(meter)
        self._valkey.observe_with(meter, slow_log, guard)

    def create_key(self, tenant_id: TenantId, namespace: str, parts: Sequence[bytes | str]) -> str:
        return create_key(tenant_id, namespace, parts)

    def peek(self, key: str) -> bytes | None:
        return self._memory.peek(key)

    async def get(self, key: str) -> bytes | None:
        entry = self._memory.look(key)
        value = None
        if entry is not None and self._memory.is_fresh(entry):
            value = entry.value
        elif not self._valkey.is_away:
            n_seen = self._drops.n_seen
            found = await self._valkey.get(key)
            now = self._memory.look(key)
            if now is not None and now is not entry and self._memory.is_fresh(now):
                value = now.value  # set meanwhile, so newer than what was under way
            elif found is not None and found.fresh_s > 0 and self._taken(key, found, n_seen):
                value = found.value
        self._operations.add(1, "get", "miss" if value is None else "hit")
        return value

    async def set(self, key: str, value: bytes, *, ttl_s: float, tags: Sequence[str] = ()) -> None:
        scoped = tag_keys(key, tags)
        self._memory.keep(key, value, ttl_s=ttl_s, tags=scoped)
        await self._valkey.set(key, value, ttl_s=ttl_s, stale_s=0.0, tags=scoped)

    async def get_or_set(
        self,
        key: str,
        produce: Callable[[], Awaitable[bytes]],
        *,
        ttl_s: float,
        stale_s: float = 0.0,
        tags: Sequence[str] = (),
    ) -> bytes:
        """As `MemoryCache`; of several replicas one produces, as long as it is alive, and the others wait for it."""
        entry = self._memory.look(key)
        if entry is not None and self._memory.is_fresh(entry):
            self._operations.add(1, "get_or_set", "hit")
            return entry.value
        making = Making(key=key, produce=produce, ttl_s=ttl_s, stale_s=stale_s, tags=tag_keys(key, tags))
        if entry is None:
            if key in self._flights:
                self._operations.add(1, "get_or_set", "joined")
            return await self._flights.join(key, making.tags, partial(self._come_by, making, True))
        self._operations.add(1, "get_or_set", "stale")
        if self._memory.may_refresh(entry):
            self._flights.start(key, making.tags, partial(self._come_by, making, False))
        return entry.value

    async def drop(self, tenant_id: TenantId, tag: str) -> None:
        """Here at once; by other replicas within a beat, or as soon as Valkey is there again to tell them."""
        await self._drops.drop(tag_key(str(tenant_id), tag))

    async def beat(self) -> None:
        """Tell and hear of drops, and find out whether Valkey is there."""
        await self._drops.try_beat()

    async def keep_up(self) -> None:
        """A beat a second until cancelled."""
        while True:
            try:
                await self.beat()
            except Exception:  # a bug must not end it: nobody would hear of a drop again
                LOG.exception("The cache's beat failed")
            await self._sleep(BEAT_S)

    async def clean_up(self, interval_s: float) -> None:
        """Of memory; Valkey does it by itself."""
        await self._memory.clean_up(interval_s)

    async def close(self) -> None:
        """End what is being produced; whose turn it was gives it back, if there is time."""
        await self._flights.close()
        if self._renewing is not None:
            self._renewing.cancel()
        await asyncio.gather(*self._errands, return_exceptions=True)
        await self._valkey.close()

    async def _come_by(self, making: Making, stale_will_do: bool, flight: Flight) -> bytes:
        """Out of Valkey, or made: by us if it is our turn, if turns cannot be asked for, or if others take long."""
        token, pause_s = secrets.token_hex(8), FIRST_PAUSE_S
        until_s = self._clock() + (0.0 if self._hung.has(making.key) else WAIT_S)
        while True:
            n_seen = self._drops.n_seen
            try:
                turn = await self._valkey.begin(making.key, token, stale_will_do=stale_will_do)
            except asyncio.CancelledError:
                self._run_errand(self._valkey.give_back(making.key, token))
                raise
            if turn is None:
                # No turns are given by one that may not be written to; what it has it gives.
                found = await self._valkey.get(making.key)
                if found is not None and found.fresh_s > 0 and self._taken(making.key, found, n_seen):
                    self._operations.add(1, "get_or_set", "shared")
                    return found.value
                return await self._made(making, flight, None)
            if turn.found is not None and self._taken(making.key, turn.found, n_seen):
                self._operations.add(1, "get_or_set", "shared")
                return turn.found.value
            if turn.is_ours:
                return await self._made_in_turn(making, flight, turn)
            if turn.found is not None:
                return await self._made(making, flight, turn)
            if self._clock() >= until_s:
                self._hung.add(making.key)
                return await self._made(making, flight, turn)
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _made_in_turn(self, making: Making, flight: Flight, turn: Turn) -> bytes:
        self._turns[turn.token] = making.key, turn
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="cache-leases", context=Context())
        try:
            return await self._made(making, flight, turn)
        except BaseException:
            self._run_errand(self._valkey.give_back(making.key, turn.token))
            raise
        finally:
            del self._turns[turn.token]

    async def _made(self, making: Making, flight: Flight, turn: Turn | None) -> bytes:
        try:
            value = await making.produce()
        except Exception:
            self._operations.add(1, "get_or_set", "failed")
            raise
        self._operations.add(1, "get_or_set", "produced")
        ttl_s = self._memory.jittered_s(making.ttl_s)
        if not flight.is_outdated:
            self._memory.keep(making.key, value, ttl_s=ttl_s, stale_s=making.stale_s, tags=making.tags)
        # Without a turn it is not known what was dropped before it was made.
        if turn is not None:
            await self._valkey.set(making.key, value, ttl_s=ttl_s, stale_s=making.stale_s, tags=making.tags, turn=turn)
        return value

    async def _renew(self) -> None:
        """One for all turns, until there is none, and on nobody's behalf."""
        while self._turns:
            await self._sleep(LEASE_S / 3)
            await asyncio.gather(*(self._valkey.renew(key, turn) for key, turn in self._turns.values()))

    def _taken(self, key: str, found: SharedEntry, n_seen: int) -> bool:
        """Whether it may be given; if so it is in memory, too, unless a drop was seen while it was under way."""
        if not self._drops.is_known_to_valkey(found.tags):
            return False
        if not found.tags or n_seen == self._drops.n_seen:
            self._memory.keep(key, found.value, ttl_s=found.fresh_s, stale_s=found.stale_s, tags=found.tags)
        return True

    def _dropped(self, tag: str | None) -> None:
        self._memory.drop_tag(tag)
        self._flights.outdate(tag)

    def _run_errand(self, errand: Coroutine[None, None, None]) -> None:
        """Nobody waits for it, who may be cancelled."""
        task = asyncio.create_task(errand, name="cache-errand")
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
