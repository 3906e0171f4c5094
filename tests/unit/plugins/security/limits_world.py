"""Replicas of the limiter without servers: one clock for all, and a real Valkey that runs the real script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, cast

import valkey.asyncio

from plugins.contract.errors import RetryableError
from plugins.security.limits.exchange import Exchange
from plugins.security.limits.leases import Leases
from plugins.security.limits.share import LimitKind, Share, Slots, Tally
from unit.plugins.harness import FakeClock

EPOCH_MS = 1_800_000_000_000
"""What the servers' clock says when ours says 0."""


class State:
    """The `SharedState` port on a client of Valkey. `is_away`: refuses; `delayed`: messages that were given up, and are
    read all the same once it is there again."""

    def __init__(self, url: str) -> None:
        self._client = cast("Any", valkey.asyncio.from_url(url))  # type: ignore[no-untyped-call]
        self.is_away = False
        self.is_frozen = False
        self.loses_replies = False
        self.delayed: list[tuple[str, Sequence[str], Sequence[str | int]]] = []
        self.n_calls = 0

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Sequence[object]:
        self.n_calls += 1
        if self.is_frozen:
            self.delayed.append((script, keys, arguments))
            raise RetryableError("frozen")
        if self.is_away:
            raise RetryableError("away")
        reply = await self._client.eval(script, len(keys), *keys, *arguments)
        if self.loses_replies:
            raise RetryableError("lost")
        return cast("Sequence[object]", reply)

    async def read_delayed(self, server_ms: int) -> None:
        """Thawed: what waited in its sockets is read by its own clock."""
        delayed, self.delayed = self.delayed, []
        for script, keys, arguments in delayed:
            await self._client.eval(script, len(keys), *keys, server_ms, *arguments[1:])

    async def wipe(self) -> None:
        await self._client.flushall()

    async def close(self) -> None:
        await self._client.aclose()


class Replica:
    """One process of the gateway, as far as limits go."""

    def __init__(self, state: State, clock: FakeClock, name: str, *, n_replicas: int = 1) -> None:
        self.clock = clock
        self.name = name
        self.exchange = Exchange(
            state, clock=clock, server_clock=lambda: EPOCH_MS + round(clock.now_s * 1000), holder=name
        )
        self.leases = Leases(self.exchange, n_replicas=n_replicas, clock=clock)
        self.tallies: dict[LimitKind, Tally] = {}

    @property
    def has_heard(self) -> bool:
        return self.exchange.n_replicas > 0

    def share(self, limit: int, kind: LimitKind = "requests", key: str = "") -> Share:
        tally = self.tallies.setdefault(kind, Tally(kind, "key"))
        return self.leases.share(key or f"{kind}:one", limit, tally)

    async def beat(self) -> None:
        self.leases._beat_at_s = float("-inf")
        await self.leases.turn()

    def take(self, share: Share, units: int = 1) -> bool:
        """What the limiter does where nobody need be asked."""
        now_s = self.clock.now_s
        if now_s >= self.leases.phase_ends_s:
            self.leases.age(now_s)
        if share.room(now_s) < units:
            share.missed = min(share.limit, share.missed + units)
            self.leases.active.setdefault(share.key, share)
            return False
        share.take(units, now_s)
        return True

    def release(self, share: Share) -> None:
        assert isinstance(share, Slots)
        share.give_back()


class World:
    """Replicas on one Valkey, beating together."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.clock = FakeClock()
        self.replicas: list[Replica] = []

    async def beats(self, seconds: float = 0.25) -> None:
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            self.clock.now_s += 0.25
            for replica in self.replicas:
                await replica.beat()

    async def join(self, *names: str) -> list[Replica]:
        made = [Replica(self.state, self.clock, name) for name in names]
        self.replicas += made
        await self.beats(3.0)
        return made

    async def wait(self, replica: Replica, needs: list[tuple[Share, int]]) -> Share | None:
        """As a request does, while beats go on. It waits in real time, of which the clock makes twice as much."""
        waiting = asyncio.create_task(_of(replica.leases.wait_for_room(needs)))
        while not waiting.done():
            await asyncio.sleep(0.01)
            for one in self.replicas:
                await one.leases.turn()
            self.clock.now_s += 0.02
        return await waiting


async def _of(awaitable: Awaitable[Share | None]) -> Share | None:
    return await awaitable
