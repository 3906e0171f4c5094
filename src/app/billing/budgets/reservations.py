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
from typing import NoReturn
from uuid import UUID

from app.billing.budgets import store
from app.billing.budgets.lender import Lender
from app.billing.budgets.model import Budget
from app.billing.budgets.purse import Purse
from app.billing.model import time_of
from app.billing.store import Leases
from app.database.engine import Database
from app.errors import BudgetExceeded, BudgetUnavailable, PriceUnknown
from app.ids import encode_id
from app.llm.accounting import Expected
from plugins.contract.credentials import budgets_handle
from plugins.contract.errors import RetryableError
from plugins.contract.ports import ChangeFeed, Counter
from plugins.contract.remembered import Remembered

logger = logging.getLogger("billing")

PATIENCE_S = 2.0
"""How long a call waits for money: a statement takes 1 ms, so the database is away then."""

REFUSED_FOR_S = 0.2
"""How long the database's word that nothing is left stands: refusing 1,000 calls a second costs five questions."""

MAX_STALE_S = 24 * 3600.0
"""While the database is away: what is known of budgets lets nothing through, for money is lent by the database."""

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
        self._clock = clock
        self.lender = Lender(database, holder, grace_s=grace_s, clock=clock)
        self._budgets = Remembered[tuple[Budget, ...]](
            self._load, feed, max_age_s=1.0, max_stale_s=MAX_STALE_S, max_entries=MAX_TENANTS, timeout_s=5.0
        )
        self._settled: dict[UUID, tuple[list[Purse], int]] = {}
        """Calls that are over and not entered yet: whom they cost how much."""
        self._refused: Counter | None = None

    def observe_with(self, refused: Counter) -> None:
        """`refused` has one label: the budget's scope."""
        self._refused = refused

    def start(self) -> None:
        self.lender.start()

    async def stop(self) -> None:
        """Before the journal's last entries are moved. What is in flight then was abandoned."""
        await self.lender.stop()
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
        for budget in covering:
            if needed_nusd > budget.amount_nusd:  # asking for it would keep others from what there is
                self._refuse(budget)
        self.lender.look_at_the_clock()
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
        async with self.lender.at_database:
            yield self._moved

    def _moved(self, ids: Collection[UUID], leases: Leases) -> None:
        for call_id in ids:
            for purse in self.dropped(call_id):
                if (purse.budget.id, purse.period_start) not in leases:  # it lapsed, or the budget is gone
                    purse.granted_nusd = 0
        for key, granted_nusd in leases.items():
            if (lent := self.lender.purses.get(key)) is not None:
                lent.granted_nusd = granted_nusd

    def dropped(self, call_id: UUID) -> Collection[Purse]:
        """Its entry is entered, or never will be: it waits no more. Returns: whom it cost something."""
        purses, cost_nusd = self._settled.pop(call_id, ((), 0))
        for purse in purses:
            purse.unmoved_nusd -= cost_nusd
        return purses

    def _purse(self, budget: Budget, period_start: datetime) -> Purse:
        purse = self.lender.purses.get((budget.id, period_start))
        if purse is None:
            purse = self.lender.purses[budget.id, period_start] = Purse(budget=budget, period_start=period_start)
        elif purse.budget is not budget:
            if purse.budget.amount_nusd != budget.amount_nusd:
                purse.asked_at_s = float("-inf")  # what was left of the old amount says nothing
                purse.granted_nusd = min(purse.granted_nusd, purse.kept_nusd)  # of a smaller one less may be lent
            purse.budget = budget
        return purse

    async def _fill(self, purse: Purse, needed_nusd: int) -> None:
        """Returns after the next answer of the database. Raises: BudgetExceeded, BudgetUnavailable."""
        self._require_left(purse, needed_nusd)
        purse.waiting.append(needed_nusd)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(self.lender.ask(purse))
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
        self._refuse(purse.budget)

    def _refuse(self, budget: Budget) -> NoReturn:
        if self._refused is not None:
            self._refused.add(1, budget.scope)
        raise BudgetExceeded(f"the budget {_name(budget)} has not enough left for this call: ask who set it")

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
