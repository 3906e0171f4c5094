"""Prices of tenants in the real database: in versions, each tenant's own, heard of by every replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.audit.model import COMMAND_LINE
from app.database.changes import ChangeListener
from app.database.engine import Database
from app.database.paging import PageRequest
from app.errors import InvalidRequest, NotFound
from app.llm.prices import Price
from app.prices.service import PricesService
from plugins.contract.nulls import NullChangeFeed
from plugins.contract.principal import DEFAULT_TENANT_ID

CHEAP = Price(input_nusd_per_mtok=1, output_nusd_per_mtok=2, cached_nusd_per_mtok=0)
DEAR = Price(input_nusd_per_mtok=10, output_nusd_per_mtok=20)
START = datetime(2026, 11, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def prices(database: Database, clock: Clock) -> AsyncIterator[PricesService]:
    made = PricesService(database, NullChangeFeed(), clock)
    yield made
    await made.close()


async def put(
    prices: PricesService,
    price: Price | None,
    valid_from: datetime | None = None,
    tenant_id: UUID = DEFAULT_TENANT_ID,
) -> None:
    await prices.set(COMMAND_LINE, tenant_id=tenant_id, target="t", price=price, valid_from=valid_from)


async def test_a_price_to_come_holds_from_its_moment_without_anything_being_told(
    prices: PricesService, clock: Clock
) -> None:
    """As `in_force` lists it and as calls get it."""
    await put(prices, DEAR)
    await put(prices, CHEAP, START + timedelta(days=1))
    assert await prices.of(DEFAULT_TENANT_ID) == {"t": DEAR}
    clock.now += timedelta(days=1)
    assert await prices.of(DEFAULT_TENANT_ID) == {"t": CHEAP}
    assert (await prices.in_force(DEFAULT_TENANT_ID))["t"].price == CHEAP


async def test_as_everybody_again(prices: PricesService, clock: Clock) -> None:
    await put(prices, CHEAP)
    clock.now += timedelta(seconds=1)
    await put(prices, None)
    assert await prices.of(DEFAULT_TENANT_ID) == await prices.in_force(DEFAULT_TENANT_ID) == {}
    rows = await prices.history(DEFAULT_TENANT_ID, PageRequest(), "t")
    assert [one.price for one in rows.items] == [None, CHEAP]
    assert (await prices.history(DEFAULT_TENANT_ID, PageRequest(), "other")).items == []


async def test_the_past_is_not_changed(prices: PricesService, database: Database) -> None:
    """Neither by the service nor by any statement of the app's role."""
    with pytest.raises(InvalidRequest, match="in the past"):
        await put(prices, CHEAP, START - timedelta(microseconds=1))
    await put(prices, CHEAP)
    for statement in ("update prices set input_nusd_per_mtok = 0", "delete from prices"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with database.tenant(DEFAULT_TENANT_ID) as session:
                await session.execute(text(statement))


async def test_of_a_tenant_that_there_is(prices: PricesService) -> None:
    nobody = UUID(int=7)
    with pytest.raises(NotFound, match="no tenant"):
        await put(prices, CHEAP, tenant_id=nobody)
    await put(prices, CHEAP)
    assert await prices.of(nobody) == {}
    assert (await prices.history(nobody, PageRequest(), None)).items == []


async def test_another_replica_hears_of_it_within_a_second(database: Database, database_url: str) -> None:
    """It had remembered that there was none."""
    changes = ChangeListener()
    changes.start(database_url)
    here, elsewhere = PricesService(database, NullChangeFeed()), PricesService(database, changes)
    assert await elsewhere.of(DEFAULT_TENANT_ID) == {}
    await put(here, CHEAP)
    deadline = time.monotonic() + 1.0
    while await elsewhere.of(DEFAULT_TENANT_ID) != {"t": CHEAP}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await changes.stop()
    await here.close()
    await elsewhere.close()
