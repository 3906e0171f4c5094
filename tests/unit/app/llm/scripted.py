"""Chains whose targets do what a test says, and whose accounts can be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import msgspec

from app.errors import BudgetExceeded, UpstreamUnavailable
from app.llm.accounting import Account, Expected, Happened
from app.llm.chain import Chain
from app.llm.hedging import Quota
from app.llm.model import Call, EmbeddingCall, Events, Reply, Target, TenantKeyUse, Usage, Vectors
from app.llm.places import Places
from app.llm.tenant_prices import TenantPrices
from app.llm.traffic import Patience, Traffic
from plugins.contract.nulls import NullGuard
from plugins.contract.ports import Guard
from unit.app.llm.support import plan
from unit.plugins.harness import FakeClock, RecordingMeter

USAGE = Usage(input_tokens=7, output_tokens=3)


class Behaviour:
    """Of one target: it waits for `gate`, if it has one, then gives or raises."""

    def __init__(self, *, failing: Exception | None = None, gate: asyncio.Event | None = None) -> None:
        self.failing = failing
        self.gate = gate
        self.n_asked = 0
        self.n_left = 0

    async def passed(self) -> None:
        self.n_asked += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.n_left += 1
            raise
        if self.failing is not None:
            raise self.failing


class Scripted:
    """Transport and embedder at once. Targets without a behaviour answer at once; `breaks` breaks its streams off, and
    `tears` does, too, in a form that another target can continue."""

    def __init__(self, behaviours: Mapping[str, Behaviour]) -> None:
        self._behaviours = behaviours
        self.n_open = 0

    async def _pass(self, target: Target) -> None:
        behaviour = self._behaviours.get(target.id)
        if behaviour is not None:
            await behaviour.passed()

    async def complete(self, target: Target, call: Call) -> Reply:
        await self._pass(target)
        return Reply(body=target.id.encode(), usage=USAGE)

    async def stream(self, target: Target, call: Call) -> AsyncIterator[Events]:
        self.n_open += 1
        try:
            await self._pass(target)
            if target.id == "tears":
                yield Events(wire=b'data: {"choices": [{"delta": {"content": "from "}}]}\n\n')
                raise UpstreamUnavailable("it broke off")
            yield Events(wire=b"from ")
            if target.id == "breaks":
                await asyncio.sleep(0.1)
                raise UpstreamUnavailable("it broke off")
            yield Events(wire=target.id.encode())
            yield Events(wire=b"", usage=USAGE)
        finally:
            self.n_open -= 1

    async def embed(self, target: Target, call: EmbeddingCall) -> Vectors:
        await self._pass(target)
        return Vectors(rows=[[1.0]], usage=USAGE)


class Entry:
    """One account: what it was opened for, and how it ended."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.happened: Happened | None = None

    def close(self, happened: Happened) -> None:
        self.happened = self.happened or happened

    @property
    def told(self) -> tuple[str | None, str, int]:
        assert self.happened is not None, "it was never closed"
        return self.happened.target, self.happened.outcome, self.happened.attempts


class Book:
    """Accounts in the order they were opened; after `n_let_in` of them none is."""

    def __init__(self, n_let_in: int = 1_000) -> None:
        self.entries: list[Entry] = []
        self.n_let_in = n_let_in
        self.gate: asyncio.Event | None = None

    async def open(self, expected: Expected) -> Account:
        if self.gate is not None:
            await self.gate.wait()
        if len(self.entries) >= self.n_let_in:
            raise BudgetExceeded("no money")
        self.entries.append(Entry(expected))
        return self.entries[-1]

    def cached(self, expected: Expected, target: str) -> None:
        raise AssertionError("nothing is cached here")


class World:
    """A chain and all that is around it."""

    def __init__(
        self,
        *,
        guard: Guard | None = None,
        max_calls: int = 0,
        book: Book | None = None,
        tenant_prices: TenantPrices | None = None,
        patience: Patience | None = None,
        **behaviours: Behaviour,
    ) -> None:
        self.transport = Scripted(behaviours)
        self.book = book or Book()
        self.clock = FakeClock()
        self.traffic = Traffic(patience=patience)
        self.quota = Quota(self.clock)
        self.places = Places(max_calls)
        self.meter = RecordingMeter()
        self.chain = Chain(
            transports={"chat/completions": {"bridge": self.transport}},
            embedding={"bridge": self.transport},
            guard=guard or NullGuard(),
            meter=self.meter,
            traffic=self.traffic,
            accounting=self.book,
            tenant_prices=tenant_prices,
            places=self.places,
            hedges=self.quota,
        )

    def slow_from(self, name: str, ms: float, *, n_calls: int = 100) -> None:
        """What the target's p95 is, whole or streamed, and how many calls of late might have been hedged."""
        for _ in range(100):
            for is_whole in (True, False):
                self.traffic.begin(name)
                self.traffic.end(name, ms, is_whole=is_whole)
        for _ in range(n_calls):
            self.quota.called(name)

    def told(self) -> list[tuple[str | None, str, int]]:
        return [entry.told for entry in self.book.entries]


def target(
    name: str,
    *,
    may_hedge: bool = False,
    max_calls: int | None = None,
    tenant_key: TenantKeyUse = "never",
    own_key_id: str = "",
) -> Target:
    return Target(
        id=name,
        alias="a",
        provider_model=f"v/{name}",
        transport="bridge",
        may_hedge=may_hedge,
        max_calls=max_calls,
        tenant_key=tenant_key,
        own_key_id=own_key_id,
    )


def within(call: Call, seconds: float) -> Call:
    return msgspec.structs.replace(call, deadline_s=asyncio.get_running_loop().time() + seconds)


async def asked(world: World, call: Call, *targets: Target) -> str:
    """The answer's text, whole or streamed as the call says; what is left over has ended."""
    try:
        if not call.stream:
            return (await world.chain.complete(call, plan(*targets))).reply.body.decode().removeprefix("from ")
        streamed = await world.chain.stream(call, plan(*targets))
        return b"".join([piece.wire async for piece in streamed.pieces]).decode().removeprefix("from ")
    finally:
        await world.chain.settle()
