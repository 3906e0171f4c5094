"""The pool and its transactions: what a caller gets, and how the server's shortcomings are reported."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from app.database.engine import Database, Role
from app.database.errors import DatabaseUnavailable, DatabaseUnfit
from app.database.server import async_url
from postgres import Cluster

pytestmark = pytest.mark.requirement("PERF-2")

TENANT = uuid4()


async def insert_tenant(database: Database, slug: str) -> None:
    async with database.tenant(TENANT) as session:
        await session.execute(
            text("insert into tenants (id, name, slug) values (:t, 'x', :slug)"), {"t": TENANT, "slug": slug}
        )
        if slug == "fails":
            raise ValueError(slug)


async def test_a_transaction_is_committed_at_its_end_and_rolled_back_by_an_error(database: Database) -> None:
    """All or nothing, and the caller's own exception comes through as it is."""
    with pytest.raises(ValueError, match="fails"):
        await insert_tenant(database, "fails")
    await insert_tenant(database, "works")
    async with database.role(Role.PLATFORM) as session:
        slugs = (await session.execute(text("select slug from tenants order by slug"))).scalars().all()
    assert slugs == ["default", "works"]


async def test_a_cancelled_transaction_leaves_its_connection_usable(database_url: str) -> None:
    """A client that goes away in mid-statement costs the pool nothing, and nothing of it is committed."""
    database = Database(pool_size=1)
    await database.open(database_url)

    async def long() -> None:
        async with database.tenant(TENANT) as session:
            await session.execute(text("select pg_sleep(60)"))

    for _ in range(4):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await long()
    await database.ping()
    await database.close()


async def test_callers_beyond_the_pool_are_told_to_come_back(database_url: str) -> None:
    """With all connections taken a call ends as unavailable, and works once one is free."""
    database = Database(pool_size=1, checkout_timeout_s=0.1)
    await database.open(database_url)
    async with AsyncExitStack() as taken:
        for _ in range(2):
            await taken.enter_async_context(database.tenant(TENANT))
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
    await database.ping()
    await database.close()


async def test_connections_that_the_server_ended_are_replaced_unnoticed(cluster: Cluster, database: Database) -> None:
    """After a restart of the server, no caller meets a dead connection of the pool."""
    await database.ping()
    await cluster.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'wattos'")
    await database.ping()


async def test_every_connection_is_the_restricted_role(database: Database) -> None:
    """Also after a narrow role was in force on it."""
    async with database.role(Role.AUTH) as session:
        assert (await session.execute(text("select current_user"))).scalar_one() == "wattos_auth"
    for _ in range(3):
        async with database.tenant(TENANT) as session:
            assert (await session.execute(text("select current_user"))).scalar_one() == "wattos_app"


async def test_a_server_without_pgvector_is_refused(cluster: Cluster) -> None:
    """The message says what is missing."""
    with pytest.raises(DatabaseUnfit, match=r"pgvector 0\.8\.4 or newer is needed, this is missing"):
        await Database().open(await cluster.create_database(empty=True))


@pytest.mark.parametrize("attribute", ["superuser", "bypassrls"])
async def test_start_is_refused_when_the_role_could_bypass_tenancy(cluster: Cluster, attribute: str) -> None:
    """The start-up guard checks the role in force, not the login."""
    url = await cluster.create_database()
    await cluster.execute(f"alter role wattos_app {attribute}")
    try:
        with pytest.raises(DatabaseUnfit, match="BYPASSRLS"):
            await Database().open(url)
    finally:
        await cluster.execute(f"alter role wattos_app no{attribute}")


@pytest.mark.parametrize("role", ["wattos_app", "postgres"], ids=["itself", "by membership"])
async def test_start_is_refused_when_the_role_owns_tables(cluster: Cluster, role: str) -> None:
    """An owner may switch row-level security off, so may a member of the owner's role."""
    url = await cluster.create_database()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        if role == "wattos_app":
            await connection.execute("alter table files owner to wattos_app")
        else:
            await connection.execute("create role tables_owner")
            await connection.execute("alter table files owner to tables_owner")
            await connection.execute("grant tables_owner to wattos_app")
    try:
        with pytest.raises(DatabaseUnfit, match="own tables"):
            await Database().open(url)
    finally:
        if role != "wattos_app":
            await cluster.execute("revoke tables_owner from wattos_app")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "postgresql://user"),
        ("postgresql://h:port/db", "postgresql://user"),
        ("mysql://h/db", "not mysql"),
        ("postgresql://h/db?colour=red", "option"),
    ],
)
async def test_a_url_that_cannot_be_one_is_refused_at_once(url: str, message: str) -> None:
    """One line that says what DATABASE_URL looks like."""
    with pytest.raises(DatabaseUnfit, match=message):
        await Database().open(url)


def test_both_spellings_of_the_scheme_are_understood() -> None:
    """Some platforms hand out `postgres://`."""
    assert async_url("postgres://u:p@h/db") == async_url("postgresql://u:p@h/db")
