"""How long calls are kept, in the real database: months go as a whole, sums stay, nobody is held up."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text

from app.billing.retention import Retention
from app.database.engine import Database, Role
from app.database.errors import DatabaseUnavailable

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
CALL = text(
    "insert into calls (tenant_id, id, time, model, endpoint, outcome, attempts, is_estimate)"
    " values (:tenant, :id, :time, 'm', 'e', 'ok', 1, false)"
)
SUM = text(
    "insert into usage_days values (:tenant, :day, 'm', '', :nil, :nil, 1, 0, 0, 0, 0, 0)",
)


@pytest.fixture
def tenant() -> UUID:
    return uuid4()


def retention(database: Database, *, calls_days: int = 0, sums_days: int = 0, now: datetime = NOW) -> Retention:
    return Retention(database, calls_days=calls_days, sums_days=sums_days, clock=lambda: now)


async def fill(database: Database, tenant: UUID, *moments: datetime) -> None:
    """A call at each, and its day's sum."""
    async with database.role(Role.LEDGER) as session:
        for moment in moments:
            await session.execute(text("select make_calls_partition(:moment)"), {"moment": moment})
            await session.execute(CALL, {"tenant": tenant, "id": uuid4(), "time": moment})
            await session.execute(SUM, {"tenant": tenant, "day": moment.date(), "nil": UUID(int=0)})


async def calls(database: Database, tenant: UUID) -> list[datetime]:
    async with database.tenant(tenant) as session:
        return list((await session.execute(text("select time from calls order by time"))).scalars())


async def days(database: Database, tenant: UUID) -> list[date]:
    async with database.tenant(tenant) as session:
        return list((await session.execute(text("select day from usage_days order by day"))).scalars())


async def partitions(database_url: str) -> list[str]:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        found = await connection.execute(
            "select relname from pg_inherits join pg_class on oid = inhrelid where inhparent = 'calls'::regclass"
        )
        return sorted(str(row[0]) for row in await found.fetchall())


async def test_whole_months_go_once_all_of_them_is_older(database: Database, tenant: UUID) -> None:
    """Thirty days before November 26 is October 27: September goes, October stays to its first day. Sums stay."""
    moments = [
        datetime(2025, 12, 31, tzinfo=UTC),
        datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 10, 1, tzinfo=UTC),
        NOW,
    ]
    await fill(database, tenant, *moments)
    for _ in range(2):
        await retention(database, calls_days=30).keep()
        assert await calls(database, tenant) == moments[2:]
    assert await days(database, tenant) == [moment.date() for moment in moments]


@pytest.mark.parametrize("at", [NOW, datetime(2026, 12, 30, 23, 59, 59, tzinfo=UTC)], ids=["not over", "too early"])
async def test_a_month_that_is_not_over_long_enough_is_kept(database: Database, tenant: UUID, at: datetime) -> None:
    """To the second: November's last call is thirty days old when December 31 begins."""
    last = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    await fill(database, tenant, last)
    await retention(database, calls_days=30, now=at).keep()
    assert await calls(database, tenant) == [last]
    await retention(database, calls_days=30, now=datetime(2026, 12, 31, tzinfo=UTC)).keep()
    assert await calls(database, tenant) == []


async def test_without_the_setting_everything_is_kept(database: Database, tenant: UUID) -> None:
    ancient = datetime(2001, 1, 1, tzinfo=UTC)
    await fill(database, tenant, ancient)
    await retention(database).keep()
    assert await calls(database, tenant) == [ancient]
    assert await days(database, tenant) == [ancient.date()]


async def test_sums_go_by_day_where_that_is_set(database: Database, tenant: UUID) -> None:
    """In batches; calls are another setting's."""
    moments = [NOW - timedelta(days=n) for n in (3, 2, 1, 0)]
    await fill(database, tenant, *moments)
    await retention(database, sums_days=2).keep()
    assert await days(database, tenant) == [moment.date() for moment in moments[1:]]
    assert len(await calls(database, tenant)) == 4


async def test_the_next_month_has_its_place_before_it_begins(database: Database, database_url: str) -> None:
    """A week before; so its first call takes no lock. With row-level security as every other."""
    before = await partitions(database_url)
    await retention(database, now=datetime(2030, 1, 24, tzinfo=UTC)).keep()
    assert set(await partitions(database_url)) - set(before) == {"calls_203001"}
    for _ in range(2):
        await retention(database, now=datetime(2030, 1, 25, tzinfo=UTC)).keep()
    assert set(await partitions(database_url)) - set(before) == {"calls_203001", "calls_203002"}


async def test_who_reads_calls_is_not_disturbed_and_nobody_waits_for_long(
    database: Database, database_url: str, tenant: UUID
) -> None:
    """Dropping gives up after half a second, and is done when it is tried again."""
    old = datetime(2026, 1, 1, tzinfo=UTC)
    await fill(database, tenant, old)
    keeping = retention(database, calls_days=30)
    async with await psycopg.AsyncConnection.connect(database_url) as reader:
        await reader.execute("select count(*) from calls")
        began_s = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await keeping.keep()
        assert time.monotonic() - began_s < 5
        assert await calls(database, tenant) == [old]
    await keeping.keep()
    assert await calls(database, tenant) == []


async def test_the_apps_own_role_drops_nothing(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute("set role wattos_app")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("select drop_calls_partition(now())")
