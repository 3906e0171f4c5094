"""A chain of targets: the first that answers wins. Knows no vendor; transports and guard are handed in.

With several targets the next one is tried at once; retries with backoff are for the last that is left. `verdicts` has
the table of which errors move on. A stream may fall back silently until its first token is there (`relay` after it).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import TypeVar
from uuid import UUID

import msgspec

from app.llm.accounting import Account, Accounting, Happened, NoAccounting, expected
from app.llm.answers import Completed, Embedded, Served, Streamed
from app.llm.attempts import Attempts
from app.llm.instruments import Instruments, outcome_of
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
from app.llm.own_keys import NoOwnKeys, OwnKeys, require_key, with_own_keys
from app.llm.relay import Opened, relayed
from app.llm.reports import Reports
from app.llm.stream import before, until_token, within
from app.llm.tenant_prices import NoTenantPrices, TenantPrices, with_tenant_prices
from app.llm.tokens import estimated_usage
from app.llm.traffic import Traffic
from app.llm.verdicts import verdict_on
from plugins.contract.errors import WattosError
from plugins.contract.nulls import NullSlowLog
from plugins.contract.ports import Guard, Meter, SlowLog
from plugins.contract.work import waited_for_model

logger = logging.getLogger("llm")

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
    ) -> None:
        self._transports = transports
        self._embedding = embedding
        self._guard = guard
        self._outcomes = outcomes or LastOutcomes()
        self._reports = Reports(Instruments(meter, slow_log or NullSlowLog()), traffic or Traffic())
        self._own_keys = own_keys or NoOwnKeys()
        self._tenant_prices = tenant_prices or NoTenantPrices()
        self._accounting = accounting or NoAccounting()

    async def complete(self, call: Call, plan: Plan) -> Completed:
        """Raises: what the only target raised, or AllTargetsFailed; DeadlineExceeded; what does not let the call in."""
        transports = self._transports[call.endpoint]

        async def attempt(target: Target) -> Reply:
            async with within(target.timeouts.total_s, target):
                return await transports[target.transport].complete(target, call)

        plan = await self._of_tenant(plan, call.tenant_id)
        attempts = Attempts()
        account = await self._accounting.open(expected(call, plan))
        with _closed_if_it_fails(account, attempts):
            walking = self._walk(plan, self._reports.counted(attempt), attempts)
            if call.deadline_s is None:
                served = await walking
            else:
                async with before(call.deadline_s):
                    served = await walking
            reply = served.value
            usage = reply.usage or await estimated_usage(call, (reply.body,))
            cost_nusd = self._reports.report(served.target, attempts.n_sent, "ok", usage, served.began_s, account)
        return Completed(reply=reply, target=served.target, attempts=served.attempts.n_sent, cost_nusd=cost_nusd)

    def cached(self, call: Call | EmbeddingCall, target_id: str) -> None:
        """An answer that this target once gave was given again: it is entered, and costs nothing."""
        self._accounting.cached(expected(call, Plan(targets=())), target_id)

    async def with_own_keys(self, plan: Plan, tenant_id: UUID | None) -> Plan:
        """The same plan, called with the tenant's own keys where it has some. Raises: RetryableError."""
        return await with_own_keys(plan, tenant_id, self._own_keys)

    async def _of_tenant(self, plan: Plan, tenant_id: UUID | None) -> Plan:
        """The same plan, with the tenant's own keys and prices. Raises: RetryableError."""
        plan = await self.with_own_keys(plan, tenant_id)
        return await with_tenant_prices(plan, tenant_id, self._tenant_prices)

    async def stream(self, call: Call, plan: Plan) -> Streamed:
        """Returns once the first token is there. Raises: as `complete`; afterwards the iterator raises."""
        plan = await self._of_tenant(plan, call.tenant_id)
        opened = await self._open(call, plan, Attempts())
        pieces = relayed(call, opened, reopen=self._open, ended=self._reports.ended)
        return Streamed(pieces=pieces, target=opened.target, attempts=opened.attempts.n_sent)

    async def embed(self, call: EmbeddingCall, plan: Plan) -> Embedded:
        """Raises: as `complete`."""

        async def attempt(target: Target) -> Vectors:
            async with within(target.timeouts.total_s, target):
                return await self._embedding[target.transport].embed(target, call)

        plan = await self._of_tenant(plan, call.tenant_id)
        attempts = Attempts()
        account = await self._accounting.open(expected(call, plan))
        with _closed_if_it_fails(account, attempts):
            served = await self._walk(plan, self._reports.counted(attempt), attempts)
            cost_nusd = self._reports.report(
                served.target, attempts.n_sent, "ok", served.value.usage, served.began_s, account
            )
        return Embedded(
            vectors=served.value, target=served.target, attempts=served.attempts.n_sent, cost_nusd=cost_nusd
        )

    async def _open(self, call: Call, plan: Plan, attempts: Attempts) -> Opened:
        transports = self._transports[call.endpoint]

        async def attempt(target: Target) -> Opened:
            sent_s = time.monotonic()
            pieces = transports[target.transport].stream(target, call)
            first = await until_token(pieces, target)
            return Opened(first=first, rest=pieces, target=target, first_token_ms=(time.monotonic() - sent_s) * 1000)

        account = await self._accounting.open(expected(call, plan))
        with _closed_if_it_fails(account, attempts):
            async with before(call.deadline_s):
                served = await self._walk(plan, self._reports.counted(attempt, is_whole=False), attempts)
        return msgspec.structs.replace(
            served.value, others=served.rest, attempts=served.attempts, began_s=served.began_s, account=account
        )

    async def _walk(self, plan: Plan, attempt: Callable[[Target], Awaitable[T]], attempts: Attempts) -> Served[T]:
        began_s = time.monotonic()
        waiting, asked = plan.targets, set[str]()
        while waiting:
            target, waiting = waiting[0], waiting[1:]
            asked.add(target.id)

            async def send(target: Target = target) -> T:
                require_key(target)
                attempts.n_sent += 1
                sent_s = time.monotonic()
                try:
                    return await attempt(target)
                except WattosError as exc:
                    attempts.failed(target, exc, (time.monotonic() - sent_s) * 1000)
                    raise

            asked_s = time.monotonic()
            try:
                if target.own_key_id:  # what goes wrong with a tenant's own key must not open a breaker for others
                    value = await send()
                else:
                    value = await self._guard.call(target.known_as, send, retry=not waiting)
            except WattosError as exc:
                waiting = self._after(exc, target, waiting, plan, asked, attempts)
            else:
                if not target.own_key_id:
                    self._outcomes.answered(target.known_as)
                return Served(value=value, target=target, rest=waiting, attempts=attempts, began_s=began_s)
            finally:
                waited_for_model(time.monotonic() - asked_s)
        raise attempts.summary()

    def _after(
        self,
        exc: WattosError,
        target: Target,
        waiting: tuple[Target, ...],
        plan: Plan,
        asked: set[str],
        attempts: Attempts,
    ) -> tuple[Target, ...]:
        """Whom to ask after this failure. Raises: the failure, when nobody else could do better."""
        if not (attempts.failures and attempts.failures[-1][1] is exc):
            attempts.failed(target, exc, 0.0)  # the breaker's refusal: nothing was sent
        then = verdict_on(exc).then
        if then == "next":
            if not target.own_key_id:
                self._outcomes.failed(target.known_as, exc)
            logger.warning("target %s failed: %s", target.id, exc.code)
            return waiting
        instead = {"longer": plan.on_context, "lenient": plan.on_policy}.get(then, ())
        others = tuple(other for other in instead if other.id not in asked)
        if not others:
            raise attempts.raised(exc)
        logger.info("target %s cannot take this request: %s", target.id, exc.code)
        return others

    async def settle(self) -> None:
        """Wait for what is still being counted: before the process ends."""
        await self._reports.settle()


@contextlib.contextmanager
def _closed_if_it_fails(account: Account, attempts: Attempts) -> Generator[None]:
    """Who is served closes the account."""
    n_before = attempts.n_sent
    try:
        yield
    except BaseException as exc:
        asked = attempts.failures[-1][0].id if attempts.failures else None
        account.close(Happened(outcome=outcome_of(exc), target=asked, attempts=attempts.n_sent - n_before))
        raise
