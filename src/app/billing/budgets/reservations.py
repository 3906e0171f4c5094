"""Money for calls: reserved before they are sent, settled when they are over, lent by the database in between.

Invariant: of a period no more is spent than its amount, but for what calls in flight at once cost beyond what they had
reserved. docs/BILLING.md says why it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from datetime import datetime
from uuid import UUID

from app.billing.budgets import store
from app.billing.budgets.model import Budget
from app.billing.budgets.purse import Purse
from app.billing.model import time_of
from app.billing.store import Leases
from app.database.engine import Database, Role
from app.errors import BudgetExceeded, BudgetUnavailable, PriceUnknown
from app.ids import encode_id
from app.llm.accounting import Expected
from plugins.contract.credentials import budgets_handle
from plugins.contract.errors import RetryableError
from plugins.contract.ports import ChangeFeed, Counter
from plugins.contract.remembered import Remembered

logger = logging.getLogger("billing")

LEASE_S = 30.0
"""How long money is lent. Then it counts as spent until its process's journal is replayed, or the grace is over."""

RENEW_EVERY_S = 2.5
"""Leases are told that their process lives, and idle money is given back: twelve times a lease."""

IDLE_S = 5.0
"""Money that nobody used for so long goes back, to be lent to others."""

PATIENCE_S = 2.0
"""How long a call waits for money: a statement takes 1 ms, so the database is away then."""

REFUSED_FOR_S = 0.2
"""How long the database's word that nothing is left stands: refusing 1,000 calls a second costs five questions."""

MAX_TENANTS = 100_000
"""Whose budgets are remembered, those without one included."""


class Reservation:
    """Of one call, on all budgets that cover it. Settled once."""

    __slots__ = ("_call_id", "_purses", "_reserved_nusd", "_settled")

    def __init__(
        self, call_id: UUID, purses: list[Purse], reserved_nusd: int, settled: dict[UUID, tuple[list[Purse], int]]
    ) -> None:
        self._call_id = call_id
        self._purses = purses
        self._reserved_nusd = reserved_nusd
        self._settled = settled

    def settle(self, cost_nusd: int | None) -> None:
        """Its entry is in the journal. None: nobody knows its price."""
        purses, self._purses = self._purses, []
        for purse in purses:
            purse.settle(self._reserved_nusd, cost_nusd or 0)
        if purses and cost_nusd:
            self._settled[self._call_id] = purses, cost_nusd


class Reservations:
    """For one event loop; `holder` is this process's journal. Alive between `start` and `stop`."""

    def __init__(
        self,
        database: Database,
        feed: ChangeFeed,
        holder: Callable[[], str],
        *,
        grace_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._holder = holder
        self._grace_s = grace_s
        self._clock = clock
        self._budgets = Remembered[tuple[Budget, ...]](
            self._load, feed, max_age_s=1.0, max_stale_s=300.0, max_entries=MAX_TENANTS, timeout_s=5.0
        )
        self._purses: dict[tuple[UUID, datetime], Purse] = {}
        self._settled: dict[UUID, tuple[list[Purse], int]] = {}
        """Calls that are over and not entered yet: whom they cost how much."""
        self._asking: dict[tuple[UUID, datetime], asyncio.Task[None]] = {}
        self._at_database = asyncio.Lock()
        """One at a time: what it answers of leases is then in the order in which it answered."""
        self._renewing: asyncio.Task[None] | None = None
        self._refused: Counter | None = None
        self.n_asked = 0
        """Questions to the database for money."""

    def observe_with(self, refused: Counter) -> None:
        """`refused` has one label: the budget's scope."""
        self._refused = refused

    def start(self) -> None:
        self._renewing = asyncio.create_task(self._renew_for_ever(), name="budget-leases")

    async def stop(self) -> None:
        """After the journal's last entries were moved. What is in flight then was abandoned."""
        tasks = [*self._asking.values(), *([self._renewing] if self._renewing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._budgets.close()

    async def reserve(self, call_id: UUID, expected: Expected) -> Reservation | None:
        """None where no budget covers the call. Raises: BudgetExceeded, PriceUnknown, RetryableError."""
        if expected.tenant_id is None:
            return None
        budgets = await self._budgets.find(budgets_handle(expected.tenant_id))
        if not budgets:
            return None
        covering = [
            budget
            for budget in budgets
            if budget.covers(user_id=expected.user_id, key_id=expected.key_id, model=expected.model)
        ]
        if not covering:
            return None
        if expected.unpriced is not None:
            _require_uncounted(covering, expected.unpriced)
        needed_nusd, moment = expected.estimate_nusd or 0, time_of(call_id)
        while True:
            purses = [self._purse(budget, budget.period_at(moment)) for budget in covering]
            short = next((purse for purse in purses if not purse.has(needed_nusd)), None)
            if short is None:
                break
            await self._fill(short, needed_nusd)
        now_s = self._clock()
        for purse in purses:
            purse.reserve(needed_nusd, now_s)
        return Reservation(call_id, purses, needed_nusd, self._settled)

    @contextlib.asynccontextmanager
    async def entering(self) -> AsyncGenerator[Callable[[Collection[UUID], Leases], None]]:
        """While this process's entries are moved. What is given is to be called once they are, with their ids and what
        the database says of leases."""
        async with self._at_database:
            yield self._moved

    def _moved(self, ids: Collection[UUID], leases: Leases) -> None:
        charged: dict[int, Purse] = {}
        for call_id in ids:
            purses, cost_nusd = self._settled.pop(call_id, ((), 0))
            for purse in purses:
                purse.unmoved_nusd -= cost_nusd
                charged[id(purse)] = purse
        for purse in charged.values():  # no lease: it lapsed, or the budget is gone
            purse.granted_nusd = leases.get((purse.budget.id, purse.period_start), 0)

    def _purse(self, budget: Budget, period_start: datetime) -> Purse:
        purse = self._purses.get((budget.id, period_start))
        if purse is None:
            purse = self._purses[budget.id, period_start] = Purse(budget=budget, period_start=period_start)
        elif purse.budget is not budget:
            if purse.budget.amount_nusd != budget.amount_nusd:
                purse.asked_at_s = float("-inf")  # what was left of the old amount says nothing
            purse.budget = budget
        return purse

    async def _fill(self, purse: Purse, needed_nusd: int) -> None:
        """Returns after the next answer of the database. Raises: BudgetExceeded, BudgetUnavailable."""
        self._require_left(purse, needed_nusd)
        purse.waiting.append(needed_nusd)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(self._ask(purse))
        except (TimeoutError, RetryableError):  # each waiter its own exception: a shared one collects all tracebacks
            raise BudgetUnavailable(
                f"the budget {_name(purse.budget)} cannot be asked for money: the database does not answer",
                retry_after_s=1,
            ) from None
        finally:
            purse.waiting.remove(needed_nusd)
        self._require_left(purse, needed_nusd)

    def _require_left(self, purse: Purse, needed_nusd: int) -> None:
        is_known = self._clock() - purse.asked_at_s < REFUSED_FOR_S
        if not is_known or purse.has(needed_nusd) or purse.free_nusd + purse.left_nusd >= needed_nusd:
            return
        if self._refused is not None:
            self._refused.add(1, purse.budget.scope)
        raise BudgetExceeded(f"the budget {_name(purse.budget)} has not enough left for this call: ask who set it")

    def _ask(self, purse: Purse) -> asyncio.Task[None]:
        """One question a purse at a time: who comes meanwhile asks again after it, if it was not enough."""
        key = purse.budget.id, purse.period_start
        asking = self._asking.get(key)
        if asking is None or asking.done():
            asking = self._asking[key] = asyncio.create_task(self._lend(purse), name="budget-lease")
            asking.add_done_callback(lambda done: self._asked(key, done))
        return asking

    def _asked(self, key: tuple[UUID, datetime], asking: asyncio.Task[None]) -> None:
        if self._asking.get(key) is asking:
            del self._asking[key]
        if not asking.cancelled():
            asking.exception()  # seen, even when everyone has left

    async def _lend(self, purse: Purse) -> None:
        """Raises: RetryableError."""
        async with self._at_database:
            needed, smallest, wished = purse.asks_nusd()
            self.n_asked += 1
            async with self._database.role(Role.LEDGER) as session:
                answer = await store.lease(
                    session,
                    purse.budget,
                    purse.period_start,
                    holder=self._holder(),
                    needed_nusd=needed,
                    smallest_nusd=smallest,
                    wished_nusd=wished,
                    lease_s=LEASE_S,
                    grace_s=self._grace_s,
                )
            # A budget that is gone holds nobody up: the next call does not find it.
            granted_nusd, left_nusd = answer or (purse.kept_nusd + needed, 0)
            purse.lent(granted_nusd, left_nusd, self._clock())

    async def _renew_for_ever(self) -> None:
        renewed_s = self._clock()
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                await self.renew()
                renewed_s = self._clock()
            except RetryableError:
                if self._clock() - renewed_s > LEASE_S + self._grace_s:
                    self._forfeit()
            except Exception:  # a bug must not end the leases of all others
                logger.exception("leases of budgets cannot be renewed")

    async def renew(self) -> None:
        """Tell that this process lives, and give back what is idle. Raises: RetryableError."""
        if not self._purses:
            return
        async with self._at_database:
            idle = [purse for purse in self._purses.values() if self._is_idle(purse)]
            kept = [((purse.budget.id, purse.period_start), purse.kept_nusd) for purse in idle]
            for purse in idle:  # before it is given back: nobody may reserve it meanwhile
                purse.granted_nusd = min(purse.granted_nusd, purse.kept_nusd)
            async with self._database.role(Role.LEDGER) as session:
                if kept:
                    await store.give_back(session, self._holder(), kept)
                leases = await store.renew(session, self._holder(), LEASE_S)
            for purse in idle:  # which may have been used meanwhile, of what it gave back
                if purse.is_empty and self._is_idle(purse):
                    del self._purses[purse.budget.id, purse.period_start]
            for key, purse in self._purses.items():
                purse.granted_nusd = leases.get(key, 0)
                purse.reserved_lately_nusd = 0
            short = [purse for purse in self._purses.values() if purse.free_nusd < 0]
        for purse in short:  # what calls cost beyond what they had reserved is not there for others
            await self._lend(purse)

    def _is_idle(self, purse: Purse) -> bool:
        return not purse.waiting and self._clock() - purse.used_at_s > IDLE_S

    def _forfeit(self) -> None:
        """The grace is over, and others may have been lent what this process could not use."""
        for purse in self._purses.values():
            purse.granted_nusd = min(purse.granted_nusd, purse.kept_nusd)

    async def _load(self, handle: bytes) -> tuple[Budget, ...] | None:
        tenant_id = UUID(bytes=handle[1:])
        async with self._database.tenant(tenant_id) as session:
            return tuple(await store.all_of(session, tenant_id))  # none is known too: it stands while none can be asked


def _require_uncounted(covering: Iterable[Budget], target: str) -> None:
    for budget in covering:
        if not budget.allow_unpriced:
            raise PriceUnknown(
                f"nobody knows the price of {target}, and the budget {_name(budget)} counts money: set a price, or"
                " allow models without one in the budget"
            )


def _name(budget: Budget) -> str:
    """`bud_… (of this key, a month)`."""
    every = "" if budget.period == "total" else f", a {budget.period}"
    return f"{encode_id('bud', budget.id)} (of this {budget.scope}{every})"
