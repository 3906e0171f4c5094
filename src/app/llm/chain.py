"""A chain of targets: the first that answers wins. Knows no vendor; transports and guard are handed in.

`walk` is the way from one target to the next, `verdicts` has the table of which errors move on. A stream may fall back
silently until its first token is there (`relay` after it). A caller's deadline holds for every wait here; only what is
entered and counted afterwards may take longer.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from uuid import UUID

import msgspec

from app.llm.accounting import Account, Accounting, Happened, NoAccounting, expected
from app.llm.answers import Completed, Embedded, Served, Streamed
from app.llm.attempts import Attempts
from app.llm.hedging import Hedging, Quota
from app.llm.instruments import Instruments, outcome_of
from app.llm.legs import Asking, Leg, Legs
from app.llm.model import (
    Call,
    EmbeddingCall,
    EmbeddingTransport,
    Endpoint,
    Plan,
    Reply,
    Target,
    Transport,
    TransportName,
    Vectors,
)
from app.llm.outcomes import LastOutcomes
from app.llm.own_keys import NoOwnKeys, OwnKeys, with_own_keys
from app.llm.places import Places
from app.llm.relay import Opened, relayed
from app.llm.reports import Reports
from app.llm.stream import before, close, until_token, within
from app.llm.tenant_prices import NoTenantPrices, TenantPrices, with_tenant_prices
from app.llm.tokens import estimated_usage
from app.llm.traffic import Traffic
from app.llm.walk import Walk
from plugins.contract.nulls import NullSlowLog
from plugins.contract.ports import Guard, Meter, SlowLog

T = TypeVar("T")

Transports = Mapping[Endpoint, Mapping[TransportName, Transport]]


class Chain:
    """Walks the targets of a plan."""

    def __init__(
        self,
        *,
        transports: Transports,
        embedding: Mapping[TransportName, EmbeddingTransport],
        guard: Guard,
        meter: Meter,
        slow_log: SlowLog | None = None,
        outcomes: LastOutcomes | None = None,
        traffic: Traffic | None = None,
        own_keys: OwnKeys | None = None,
        tenant_prices: TenantPrices | None = None,
        accounting: Accounting | None = None,
        places: Places | None = None,
        hedges: Quota | None = None,
    ) -> None:
        self._transports = transports
        self._embedding = embedding
        instruments, traffic = Instruments(meter, slow_log or NullSlowLog()), traffic or Traffic()
        self._own_keys = own_keys or NoOwnKeys()
        self._tenant_prices = tenant_prices or NoTenantPrices()
        self._accounting = accounting or NoAccounting()
        places, legs = places or Places(), Legs(guard, outcomes or LastOutcomes(), traffic)
        self._reports = Reports(instruments, traffic, legs)
        self._hedging = Hedging(
            legs=legs, guard=guard, traffic=traffic, places=places, instruments=instruments, quota=hedges
        )
        self._walk = Walk(legs, places, self._hedging)

    async def complete(self, call: Call, plan: Plan) -> Completed:
        """Raises: what the only target raised, or AllTargetsFailed; Overloaded; DeadlineExceeded; what does not let the
        call in."""
        transports = self._transports[call.endpoint]

        async def attempt(target: Target) -> Reply:
            with within(target.timeouts.total_s, target):
                return await transports[target.transport].complete(target, call)

        async def discard(reply: Reply, leg: Leg[Reply], n_sent: int) -> None:
            self._reports.discarded(leg, n_sent, reply.usage)

        attempts = Attempts()
        served = await self._whole(call, plan, attempt, discard, attempts)
        with _closed_if_it_fails(served.account, attempts, 0):
            reply = served.value
            usage = reply.usage or await estimated_usage(call, (reply.body,))
            cost_nusd = self._reports.report(
                served.target, attempts.n_sent, "ok", usage, served.began_s, served.account
            )
        return Completed(reply=reply, target=served.target, attempts=attempts.n_sent, cost_nusd=cost_nusd)

    def cached(self, call: Call | EmbeddingCall, target_id: str) -> None:
        """An answer that this target once gave was given again: it is entered, and costs nothing."""
        self._accounting.cached(expected(call, Plan(targets=())), target_id)

    async def with_own_keys(self, plan: Plan, tenant_id: UUID | None) -> Plan:
        """The same plan, called with the tenant's own keys where it has some. Raises: RetryableError."""
        return await with_own_keys(plan, tenant_id, self._own_keys)

    async def stream(self, call: Call, plan: Plan) -> Streamed:
        """Returns once the first token is there. Raises: as `complete`; afterwards the iterator raises."""
        with before(call.deadline_s):
            plan = await self._of_tenant(plan, call.tenant_id)
        opened = await self._open(call, plan, Attempts())
        pieces = relayed(call, opened, reopen=self._open, ended=self._reports.ended)
        return Streamed(pieces=pieces, target=opened.target, attempts=opened.attempts.n_sent)

    async def embed(self, call: EmbeddingCall, plan: Plan) -> Embedded:
        """Raises: as `complete`."""

        async def attempt(target: Target) -> Vectors:
            with within(target.timeouts.total_s, target):
                return await self._embedding[target.transport].embed(target, call)

        async def discard(vectors: Vectors, leg: Leg[Vectors], n_sent: int) -> None:
            self._reports.discarded(leg, n_sent, vectors.usage)

        attempts = Attempts()
        served = await self._whole(call, plan, attempt, discard, attempts)
        cost_nusd = self._reports.report(
            served.target, attempts.n_sent, "ok", served.value.usage, served.began_s, served.account
        )
        return Embedded(vectors=served.value, target=served.target, attempts=attempts.n_sent, cost_nusd=cost_nusd)

    async def _whole(
        self,
        call: Call | EmbeddingCall,
        plan: Plan,
        attempt: Callable[[Target], Awaitable[T]],
        discard: Callable[[T, Leg[T], int], Awaitable[None]],
        attempts: Attempts,
    ) -> Served[T]:
        with before(call.deadline_s):
            plan = await self._of_tenant(plan, call.tenant_id)
        return await self._walked(call, plan, self._reports.counted(attempt), discard, attempts, is_whole=True)

    async def _open(self, call: Call, plan: Plan, attempts: Attempts) -> Opened:
        transports = self._transports[call.endpoint]

        async def attempt(target: Target) -> Opened:
            sent_s = time.monotonic()
            pieces = transports[target.transport].stream(target, call)
            first = await until_token(pieces, target)
            took_ms = (time.monotonic() - sent_s) * 1000
            return Opened(first=first, rest=pieces, target=target, first_token_ms=took_ms, sent_s=sent_s)

        async def discard(opened: Opened, leg: Leg[Opened], n_sent: int) -> None:
            leg.place.release()
            self._reports.unread(opened)
            self._reports.discarded(leg, n_sent, None)
            await close(opened.rest)

        counted = self._reports.counted(attempt, is_whole=False)
        served = await self._walked(call, plan, counted, discard, attempts, is_whole=False)
        return msgspec.structs.replace(
            served.value,
            others=served.rest,
            attempts=served.attempts,
            began_s=served.began_s,
            since_s=time.monotonic(),
            account=served.account,
            place=served.place,
        )

    async def _walked(
        self,
        call: Call | EmbeddingCall,
        plan: Plan,
        attempt: Callable[[Target], Awaitable[T]],
        discard: Callable[[T, Leg[T], int], Awaitable[None]],
        attempts: Attempts,
        *,
        is_whole: bool,
    ) -> Served[T]:
        async def further(target: Target) -> Account:
            return await self._accounting.open(expected(call, Plan(targets=(target,))))

        with before(call.deadline_s):
            account = await self._accounting.open(expected(call, plan))
        with _closed_if_it_fails(account, attempts, attempts.n_sent):
            asking: Asking[T] = Asking(  # `Asking[T](…)` would cost 1 µs
                attempt=attempt,
                account=account,
                attempts=attempts,
                is_whole=is_whole,
                deadline_s=call.deadline_s,
                open=further,
                discard=discard,
            )
            with before(call.deadline_s):
                return await self._walk.to_who_gives(plan, asking)

    async def _of_tenant(self, plan: Plan, tenant_id: UUID | None) -> Plan:
        """The same plan, with the tenant's own keys and prices. Raises: RetryableError."""
        plan = await self.with_own_keys(plan, tenant_id)
        return await with_tenant_prices(plan, tenant_id, self._tenant_prices)

    async def settle(self) -> None:
        """Wait for what is still being counted: before the process ends."""
        await self._hedging.settle()
        await self._reports.settle()


class _closed_if_it_fails:  # noqa: N801  # reads as what it is
    """Who is served closes the account. `n_before`: calls that were sent before it was opened."""

    __slots__ = ("_account", "_attempts", "_n_before")

    def __init__(self, account: Account, attempts: Attempts, n_before: int) -> None:
        self._account = account
        self._attempts = attempts
        self._n_before = n_before

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: object) -> None:
        if exc is None:
            return
        attempts, last_asked = self._attempts, self._attempts.last_asked
        self._account.close(
            Happened(
                outcome=outcome_of(exc),
                target=last_asked.id if last_asked else None,
                attempts=attempts.n_sent - self._n_before,
                is_under_way=attempts.under_way is not None,
            )
        )
