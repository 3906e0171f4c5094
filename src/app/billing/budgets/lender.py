"""Money from the database: asked for by all that are short at once, told to be still in use, given back when idle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.budgets import store
from app.billing.budgets.purse import Purse
from app.database.engine import Database, Role
from plugins.contract.errors import RetryableError

logger = logging.getLogger("billing")

LEASE_S = 30.0
"""How long money is lent. Then it counts as spent until its process's journal is replayed, or the grace is over."""

RENEW_EVERY_S = 2.5
"""Leases are told that their process lives, and idle money is given back: twelve times a lease."""

IDLE_S = 5.0
"""Money that nobody used for so long goes back, to be lent to others."""

Key = tuple[UUID, datetime]
"""A budget, and when one of its periods began."""


class Lender:
    """Of one process, which `holder` names, for one event loop. Runs between `start` and `stop`."""

    def __init__(
        self,
        database: Database,
        holder: Callable[[], str],
        *,
        grace_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._holder = holder
        self._grace_s = grace_s
        self._clock = clock
        self.purses: dict[Key, Purse] = {}
        self.at_database = asyncio.Lock()
        """One at a time: what the database answers of leases is then in the order in which it answered."""
        self._wanting: dict[Key, Purse] = {}
        """What the next turn asks money for."""
        self._next_turn: asyncio.Task[None] | None = None
        self._turns: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._renewed_s = clock()
        self.n_asked = 0
        """Turns in which the database was asked for money."""

    def start(self) -> None:
        self._renewing = asyncio.create_task(self._renew_for_ever(), name="budget-leases")

    async def stop(self) -> None:
        """Before the journal's last entries are moved: nothing is asked for any more."""
        tasks = [*self._turns, *([self._renewing] if self._renewing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look_at_the_clock(self) -> None:
        """Once lease and grace are over, others may have been lent what this process could not use."""
        if self._clock() - self._renewed_s > LEASE_S + self._grace_s:
            for purse in self.purses.values():
                purse.granted_nusd = min(purse.granted_nusd, purse.kept_nusd)

    def ask(self, purse: Purse) -> asyncio.Task[None]:
        """In the next turn, with all that are short: who comes while one is under way waits for the one after it."""
        self._wanting[purse.budget.id, purse.period_start] = purse
        if self._next_turn is None:
            self._next_turn = asyncio.create_task(self._lend(), name="budget-leases-asked")
            self._turns.add(self._next_turn)
            self._next_turn.add_done_callback(self._turned)
        return self._next_turn

    def _turned(self, turn: asyncio.Task[None]) -> None:
        self._turns.discard(turn)
        if not turn.cancelled():
            turn.exception()  # seen, even when everyone has left

    async def _lend(self) -> None:
        """Raises: RetryableError."""
        async with self.at_database:
            self._next_turn = None
            # In one order everywhere: two processes that lock several rows must not wait for each other.
            purses = sorted(
                self._wanting.values(), key=lambda one: (one.budget.tenant_id, one.budget.id, one.period_start)
            )
            self._wanting = {}
            self.n_asked += 1
            async with self._database.role(Role.LEDGER) as session:
                answers = [await self._lease(session, purse) for purse in purses]
            now_s = self._clock()
            for purse, asked_nusd, answer in answers:
                # A budget that is gone holds nobody up: the next call does not find it.
                purse.lent(*(answer or (purse.kept_nusd + asked_nusd, 0)), now_s)

    async def _lease(self, session: AsyncSession, purse: Purse) -> tuple[Purse, int, tuple[int, int] | None]:
        """With what was asked for."""
        needed, smallest, wished = purse.asks_nusd()
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
        return purse, needed, answer

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                await self.renew()
            except RetryableError:
                pass  # the database is away, which others log
            except Exception:  # a bug must not end the leases of all others
                logger.exception("leases of budgets cannot be renewed")

    async def renew(self) -> None:
        """Tell that this process lives, and give back what is idle. Raises: RetryableError."""
        asked_at_s = self._clock()
        if not self.purses:
            self._renewed_s = asked_at_s
            return
        async with self.at_database:
            idle = [purse for purse in self.purses.values() if self._is_idle(purse)]
            kept = [((purse.budget.id, purse.period_start), purse.kept_nusd) for purse in idle]
            for purse in idle:  # before it is given back: nobody may reserve it meanwhile
                purse.granted_nusd = min(purse.granted_nusd, purse.kept_nusd)
            async with self._database.role(Role.LEDGER) as session:
                if kept:
                    await store.give_back(session, self._holder(), kept)
                leases = await store.renew(session, self._holder(), LEASE_S, self._grace_s)
            after_s, self._renewed_s = asked_at_s - self._renewed_s, asked_at_s
            for purse in idle:  # which may have been used meanwhile, of what it gave back
                if purse.is_empty and self._is_idle(purse):
                    del self.purses[purse.budget.id, purse.period_start]
            for key, purse in self.purses.items():
                purse.renewed(leases.get(key, 0), after_s)
            short = [purse for purse in self.purses.values() if purse.is_short]
        for purse in short:
            await self.ask(purse)

    def _is_idle(self, purse: Purse) -> bool:
        return not purse.waiting and self._clock() - purse.used_at_s > IDLE_S
