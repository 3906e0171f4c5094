"""Some processes that spend one budget on a real database, with one clock: for histories of what may happen to them."""

from __future__ import annotations

from uuid import UUID

import msgspec

from app.accounts.service import AccountsService
from app.audit.model import COMMAND_LINE
from app.billing import store as ledger
from app.billing.budgets import store
from app.billing.budgets.model import Budget
from app.billing.budgets.reservations import Reservation, Reservations
from app.billing.budgets.service import BudgetsService
from app.billing.model import LedgerEntry, time_of
from app.database.engine import Database, Role
from app.errors import BudgetExceeded
from app.ids import new_id
from app.llm.accounting import Expected
from plugins.contract.nulls import NullChangeFeed
from plugins.contract.principal import ANONYMOUS

AMOUNT = 1000
GRACE_S = 3600.0


class Process(msgspec.Struct):
    """One replica: its reservations, and what stands in its journal and is not moved yet."""

    name: str
    reservations: Reservations
    open: dict[UUID, tuple[Reservation, int]] = {}
    journal: list[LedgerEntry] = []


class World:
    """Some processes, one budget of a tenant, one clock."""

    def __init__(self, database: Database, tenant_id: UUID, budget: Budget, grace_s: float) -> None:
        self.grace_s = grace_s
        self.database = database
        self.tenant_id = tenant_id
        self.budget = budget
        self.now_s = 0.0
        self.cost_nusd = 0
        self.beyond_nusd = 0
        self.n_born = 0
        self.processes = [self.born() for _ in range(3)]

    def born(self) -> Process:
        self.n_born += 1
        name = f"{self.tenant_id.hex}-{self.n_born}"
        made = Reservations(
            self.database, NullChangeFeed(), lambda: name, grace_s=self.grace_s, clock=lambda: self.now_s
        )
        return Process(name, made, {}, [])

    async def reserve(self, of: Process, estimate_nusd: int) -> bool:
        call_id = new_id()
        expected = Expected(
            tenant_id=self.tenant_id,
            key_id=None,
            user_id=None,
            model="m",
            endpoint="e",
            input_tokens=1,
            output_tokens=1,
            estimate_nusd=estimate_nusd,
            unpriced=None,
        )
        try:
            reservation = await of.reservations.reserve(call_id, expected)
        except BudgetExceeded:
            return False
        assert reservation is not None
        of.open[call_id] = reservation, estimate_nusd
        return True

    def entry(self, call_id: UUID, cost_nusd: int) -> LedgerEntry:
        self.cost_nusd += cost_nusd
        return LedgerEntry(
            id=call_id,
            tenant_id=self.tenant_id,
            key_id=None,
            user_id=None,
            model="m",
            endpoint="e",
            outcome="ok",
            cost_nusd=cost_nusd,
        )

    def settle(self, of: Process, cost_nusd: int) -> None:
        if of.open:
            call_id = next(iter(of.open))
            reservation, estimate_nusd = of.open.pop(call_id)
            self.beyond_nusd += max(0, cost_nusd - estimate_nusd)
            of.journal.append(self.entry(call_id, cost_nusd))
            reservation.settle(cost_nusd)

    async def enter(self, entries: list[LedgerEntry], holder: str) -> ledger.Leases:
        async with self.database.role(Role.LEDGER) as session:
            await ledger.make_partitions(session, sorted({time_of(one.id) for one in entries}))
            return await ledger.enter(session, entries, holder)

    async def move(self, of: Process, *, twice: bool = False) -> None:
        """`twice`: the answer to the first was lost."""
        if of.journal:
            if twice:
                await self.enter(of.journal, of.name)
            async with of.reservations.entering() as moved:
                moved([one.id for one in of.journal], await self.enter(of.journal, of.name))
            of.journal = []

    async def crash(self, at: int) -> None:
        """Its journal is replayed by another, before or after the next one is born: calls under way are lost."""
        dead = self.processes[at]
        lost = [self.entry(call_id, estimate) for call_id, (_, estimate) in dead.open.items()]
        await dead.reservations.stop()
        self.processes[at] = self.born()
        if entries := [*dead.journal, *lost]:
            await self.enter(entries, dead.name)
        async with self.database.role(Role.LEDGER) as session:
            await store.end_leases(session, dead.name)

    async def spent_and_lent(self) -> tuple[int, int]:
        async with self.database.tenant(self.tenant_id) as session:
            periods = {self.budget.id: self.budget.period_at(self.budget.created_at)}
            use = (await store.uses(session, self.tenant_id, periods, GRACE_S))[self.budget.id]
        return use.spent_nusd, use.reserved_nusd

    async def end(self) -> None:
        for process in self.processes:
            await process.reservations.stop()


async def make_world(database: Database, grace_s: float = GRACE_S) -> World:
    slug = f"h-{new_id().hex}"
    tenant = await AccountsService(database).create_tenant(COMMAND_LINE, name=slug, slug=slug)
    service = BudgetsService(database, grace_s=GRACE_S, webhook_key=b"k", allowed_hosts=frozenset())
    budget, _ = await service.create(
        ANONYMOUS,
        COMMAND_LINE,
        tenant_id=tenant.id,
        scope="tenant",
        period="total",
        amount_nusd=AMOUNT,
        allow_unpriced=False,
        webhook_url=None,
    )
    return World(database, tenant.id, budget, grace_s)
