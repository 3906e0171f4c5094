"""Entering calls in the real database: each once, whatever is repeated, and added up in the same statement."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest

from app.billing import store
from app.billing.budgets.reservations import Reservations
from app.billing.journal import Journal
from app.billing.ledger import Ledger
from app.billing.model import LedgerEntry, time_of
from app.billing.mover import Mover
from app.billing.service import UsageService
from app.database.engine import Database, Role
from app.database.paging import PageRequest
from app.ids import new_id
from app.llm.accounting import Expected, Happened
from app.llm.model import Usage
from plugins.contract.nulls import NullChangeFeed

EVER = (date(2000, 1, 1), date(2100, 1, 1))


def call_at(moment: datetime) -> UUID:
    """A UUIDv7 of that time."""
    return UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | random.getrandbits(60))


def entry(tenant: UUID, moment: datetime | None = None, **fields: object) -> LedgerEntry:
    made = LedgerEntry(
        id=call_at(moment or datetime.now(UTC)),
        tenant_id=tenant,
        key_id=None,
        user_id=None,
        model="m",
        endpoint="chat/completions",
        outcome="ok",
        target="t",
        input_tokens=2,
        output_tokens=1,
        cost_nusd=10,
    )
    return msgspec.structs.replace(made, **fields)


def mover(database: Database, root: Path, journal: Journal | None = None) -> Mover:
    journal = journal or Journal(root)
    reservations = Reservations(database, NullChangeFeed(), lambda: journal.folder.name, grace_s=60)
    return Mover(database, journal, root, reservations)


def expected(tenant: UUID, estimate_nusd: int) -> Expected:
    return Expected(
        tenant_id=tenant,
        key_id=None,
        user_id=None,
        model="m",
        endpoint="e",
        input_tokens=1,
        output_tokens=1,
        estimate_nusd=estimate_nusd,
        unpriced=None,
    )


async def enter(database: Database, entries: Sequence[LedgerEntry]) -> None:
    async with database.role(Role.LEDGER) as session:
        await store.make_partitions(session, sorted({time_of(one.id) for one in entries}))
        await store.enter(session, entries, holder="")


async def sums(database: Database, tenant: UUID) -> tuple[int, int]:
    """Calls and cost, as the rows have them and as the days have them: they are the same."""
    usage = UsageService(database)
    rows = (await usage.calls(tenant, PageRequest(limit=1000))).items
    groups = await usage.summary(tenant, ["tenant"], *EVER)
    by_rows = (len(rows), sum(row.cost_nusd or 0 for row in rows))
    by_days = (int(groups[0]["calls"]), int(groups[0]["cost_nusd"])) if groups else (0, 0)
    assert by_rows == by_days
    return by_rows


async def test_what_is_entered_again_changes_nothing(database: Database) -> None:
    """After a crash between the commit and the journal's removal everything is entered anew, in other batches."""
    tenant, other = uuid4(), uuid4()
    entries = [entry(tenant) for _ in range(20)] + [entry(other)]
    await enter(database, entries)
    await enter(database, entries)
    await enter(database, [*entries[5:15], entry(tenant)])
    assert await sums(database, tenant) == (21, 210)
    assert await sums(database, other) == (1, 10)


async def test_two_that_replay_the_same_journal_do_not_wait_for_each_other_for_ever(database: Database) -> None:
    """In any order, at once: no deadlock, no double."""
    tenant = uuid4()
    entries = [entry(tenant, model=f"m{n % 7}") for n in range(70)]
    shuffled = [random.sample(entries, len(entries)) for _ in range(6)]
    await asyncio.gather(*(enter(database, one) for one in shuffled))
    assert await sums(database, tenant) == (70, 700)


async def test_a_call_belongs_to_the_month_and_day_in_which_it_began(database: Database) -> None:
    """However late it is entered; partitions are made as they are needed, also by several at once."""
    tenant = uuid4()
    moments = [datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    entries = [entry(tenant, moment) for moment in moments]
    await asyncio.gather(*(enter(database, [one]) for one in entries * 3))
    groups = await UsageService(database).summary(tenant, ["day"], *EVER)
    assert [group["by_day"] for group in groups] == [date(2025, 12, 31), date(2026, 1, 1)]
    assert await sums(database, tenant) == (2, 20)


async def test_an_entry_that_cannot_be_entered_holds_up_no_other(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug's: it is logged, whole, for a person to enter."""
    tenant = uuid4()
    odd = entry(tenant, model="odd", cost_nusd=2**63 - 1, input_tokens=2**62)
    too_much = entry(tenant, model="odd", cost_nusd=2**63 - 1, input_tokens=2**62)
    moving = mover(database, tmp_path)
    await moving._enter([odd], moving._enter_own)
    await moving._enter([entry(tenant), too_much, entry(tenant)], moving._enter_own)
    assert await sums(database, tenant) == (3, 2**63 - 1 + 20)
    assert str(too_much.id) in caplog.text


async def test_calls_are_there_200_ms_later_and_a_clean_end_leaves_nothing(database: Database, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    moving, ledger, tenant = mover(database, tmp_path, journal), Ledger(journal.append), uuid4()
    journal.open()
    moving.start()
    happened = Happened(outcome="ok", target="t", attempts=1, usage=Usage(input_tokens=1, output_tokens=1), cost_nusd=4)
    ledger.open(expected(tenant, 1), new_id()).close(happened)
    await asyncio.sleep(0.5)
    assert await sums(database, tenant) == (1, 4)
    ledger.open(expected(tenant, 1), new_id()).close(happened)
    await moving.stop()
    assert await sums(database, tenant) == (2, 8)
    assert list(tmp_path.iterdir()) == []


async def test_a_call_under_way_at_a_clean_end_is_lost_not_forgotten(database: Database, tmp_path: Path) -> None:
    """The journal is left, and the next process enters it once."""
    journal = Journal(tmp_path)
    moving, ledger, tenant = mover(database, tmp_path, journal), Ledger(journal.append), uuid4()
    journal.open()
    moving.start()
    ledger.open(expected(tenant, 6), new_id())
    await moving.stop()
    assert await sums(database, tenant) == (0, 0)
    assert [await mover(database, tmp_path).replay() for _ in range(2)] == [1, 0]
    assert await sums(database, tenant) == (1, 6)
