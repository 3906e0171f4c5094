"""The breaker around connections: what opens it, what does not, and who closes it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from app.database.engine import BREAKER, Database
from app.database.errors import DatabaseUnavailable
from app.errors import InvalidRequest
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from postgres import Cluster, running_cluster

pytestmark = pytest.mark.requirement("RES-1")

SETTINGS = ResilienceSettings(circuit_breaker_failure_threshold=3)
TENANT = uuid4()
FROZEN_FOR_S = 0.2
"""Long enough for a server that answers within a millisecond."""


async def ask(database: Database, statement: str = "select 1") -> None:
    async with database.tenant(TENANT) as session:
        await session.execute(text(statement))


def guarded(database: Database) -> ResilientGuard:
    guard = ResilientGuard(SETTINGS.breaker, SETTINGS.retry)
    database.guard_with(guard)
    return guard


async def test_a_server_that_is_gone_opens_it_and_its_return_closes_it() -> None:
    """Three connections that cannot be had; then nobody waits; whoever asks past it closes it at once."""
    async with AsyncExitStack() as stack:
        cluster: Cluster = await stack.enter_async_context(running_cluster())
        database = Database(pool_size=1, checkout_timeout_s=FROZEN_FOR_S)
        guard = guarded(database)
        await database.open(await cluster.create_database())
        stack.push_async_callback(database.close)
        await ask(database)
        with cluster.frozen():
            for _ in range(SETTINGS.circuit_breaker_failure_threshold):
                assert guard.states()[BREAKER] == "closed"
                with pytest.raises(DatabaseUnavailable):
                    await ask(database)
            assert guard.states()[BREAKER] == "open"
            began_s = time.perf_counter()
            with pytest.raises(DatabaseUnavailable) as refused:
                await ask(database)
            assert time.perf_counter() - began_s < FROZEN_FOR_S
            assert refused.value.retry_after_s == 2
        await database.ping()
        assert guard.states()[BREAKER] == "open", "whoever asks past it says so: the health check"
        guard.recovered(BREAKER)
        await ask(database)
        assert guard.states()[BREAKER] == "closed"


async def test_statements_that_fail_and_a_full_pool_are_not_its_business(database_url: str) -> None:
    """The server is there: a wrong statement or value, and a pool whose connections are all in use, say nothing."""
    database = Database(pool_size=1, pool_timeout_s=0.1)
    guard = guarded(database)
    await database.open(database_url)
    for _ in range(2 * SETTINGS.circuit_breaker_failure_threshold):
        with pytest.raises(ProgrammingError):
            await ask(database, "select nonsense")
        with pytest.raises(InvalidRequest):
            await ask(database, "select 1 / 0")
    async with AsyncExitStack() as taken:
        for _ in range(2):
            await taken.enter_async_context(database.tenant(TENANT))
        for _ in range(2 * SETTINGS.circuit_breaker_failure_threshold):
            with pytest.raises(DatabaseUnavailable):
                await ask(database)
    assert guard.states() == {BREAKER: "closed"}
    await database.close()


async def test_a_full_pool_that_hears_nothing_opens_it() -> None:
    """All connections wait for a frozen server: nobody can ask for another one, and it counts all the same."""
    async with AsyncExitStack() as stack:
        cluster: Cluster = await stack.enter_async_context(running_cluster())
        database = Database(pool_size=1, pool_timeout_s=FROZEN_FOR_S)
        guard = guarded(database)
        await database.open(await cluster.create_database())
        stack.push_async_callback(database.close)
        taken = [await stack.enter_async_context(database.tenant(TENANT)) for _ in range(2)]
        with cluster.frozen():
            hanging = [asyncio.create_task(session.execute(text("select 1"))) for session in taken]
            for _ in range(SETTINGS.circuit_breaker_failure_threshold):
                assert guard.states()[BREAKER] == "closed"
                with pytest.raises(DatabaseUnavailable):
                    await ask(database)
            assert guard.states()[BREAKER] == "open"
        await asyncio.gather(*hanging)


async def test_a_server_without_a_connection_left_does_not_open_it(cluster: Cluster) -> None:
    """It answers so at once; the pool's other connections go on, and must not be refused."""
    await cluster.execute("create role limited login connection limit 1 in role wattos_app")
    url = make_url(await cluster.create_database()).set(username="limited").render_as_string(hide_password=False)
    database = Database(pool_size=1)
    guard = guarded(database)
    await database.open(url)
    async with database.tenant(TENANT):
        for _ in range(2 * SETTINGS.circuit_breaker_failure_threshold):
            with pytest.raises(DatabaseUnavailable):
                await ask(database)
    await ask(database)
    assert guard.states() == {BREAKER: "closed"}
    await database.close()
