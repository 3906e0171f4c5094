"""Whose login migrates and whose serves: superuser, owner without superuser, plain member; several at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from procrastinate import App, PsycopgConnector
from sqlalchemy import text

from app.database.embedded import embedded_postgres
from app.database.engine import Database, Role
from app.database.errors import DatabaseUnfit
from app.database.migrate import check, downgrade, is_current, upgrade
from postgres import Cluster

ROLES = "wattos_app, wattos_auth, wattos_sign_in, wattos_platform, wattos_jobs, wattos_ledger"


@pytest.fixture
async def untouched(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A server on which no migration has ever run: roles belong to the whole server."""
    async with embedded_postgres(tmp_path, {"fsync": "off"}) as url:
        yield Cluster(url)


def as_login(url: str, login: str) -> str:
    return url.replace("postgres@", f"{login}@")


async def upgrade_in_a_process(url: str) -> int:
    code = f"import asyncio; from app.database.migrate import upgrade; asyncio.run(upgrade({url!r}))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    return await process.wait()


async def test_processes_that_migrate_at_once_wait_for_each_other(untouched: Cluster) -> None:
    """Two replicas on one database, and others on a second database of the same server: all succeed."""
    first, second = [await untouched.create_database(empty=True) for _ in range(2)]
    statuses = await asyncio.gather(*(upgrade_in_a_process(url) for url in (first, second, first)))
    assert statuses == [0, 0, 0]
    await check(first)
    await check(second)


async def test_an_owner_who_is_no_superuser_can_migrate_and_serve(untouched: Cluster) -> None:
    """A managed server: the login owns the database and may create roles; pgvector is there already."""
    url = await untouched.create_database(empty=True)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("create extension vector")
        await connection.execute("create role owner login createrole")
        await connection.execute(f"alter database {url.partition('?')[0].rpartition('/')[2]} owner to owner".encode())
    owner = as_login(url, "owner")
    await upgrade(owner)
    await check(owner)
    database = Database(pool_size=1)
    await database.open(owner)
    tenant, store = uuid4(), uuid4()
    async with database.tenant(tenant) as session:
        await session.execute(text("insert into tenants (id, name, slug) values (:t, 'x', 'x')"), {"t": tenant})
        await session.execute(
            text("insert into vector_stores (tenant_id, id, embedding_model) values (:t, :s, 'm')"),
            {"t": tenant, "s": store},
        )
    async with database.tenant(tenant) as session:
        await session.execute(text("delete from tenants where id = :t"), {"t": tenant})
    async with database.tenant(tenant) as session:
        assert (await session.execute(text("select count(*) from vector_stores"))).scalar_one() == 0
    async with database.role(Role.PLATFORM) as session:
        assert (await session.execute(text("select slug from tenants"))).scalars().all() == ["default"]
    await database.close()
    await downgrade(owner, "base")
    await upgrade(owner)


async def test_an_owner_who_may_not_create_roles_uses_those_that_are_there(untouched: Cluster) -> None:
    """Where an administrator made the roles and granted them, the owner needs no right to create any."""
    url = await untouched.create_database(empty=True)
    for role in ROLES.split(", "):
        await untouched.execute(f"create role {role} nologin")
    await untouched.execute(f"create role modest login in role {ROLES}")
    await untouched.execute(f"alter database {url.partition('?')[0].rpartition('/')[2]} owner to modest")
    modest = as_login(url, "modest")
    with pytest.raises(DatabaseUnfit, match=r'extension "vector".*DATABASE_MIGRATION_URL'):
        await upgrade(modest)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("create extension vector")
    await upgrade(modest)
    await check(modest)


async def test_a_plain_member_of_the_roles_can_serve(cluster: Cluster) -> None:
    """DATABASE_URL's login needs no more than membership; it cannot read tables by itself."""
    url = await cluster.create_database()
    await cluster.execute(f"create role plain login noinherit in role {ROLES}")
    plain = as_login(url, "plain")
    assert await is_current(plain)
    opened = Database()
    await opened.open(plain)
    await opened.ping()
    await opened.close()
    async with await psycopg.AsyncConnection.connect(plain) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("select * from files")
    with pytest.raises(DatabaseUnfit, match="DATABASE_MIGRATION_URL"):
        await downgrade(plain, "base")


async def test_a_login_that_is_no_member_is_told_so(cluster: Cluster) -> None:
    """One line that names the missing role."""
    await cluster.execute("create role stranger login")
    with pytest.raises(DatabaseUnfit, match="wattos_app"):
        await Database().open(as_login(await cluster.create_database(), "stranger"))


async def test_a_plain_member_of_the_roles_can_work_on_jobs(cluster: Cluster) -> None:
    """What a tenant enqueues, a worker in the role `wattos_jobs` takes and finishes; it reads no tenant's tables."""
    url = await cluster.create_database()
    await cluster.execute(f"create role working login noinherit in role {ROLES}")
    plain = as_login(url, "working")
    tenant, done = uuid4(), []
    database = Database(pool_size=1)
    await database.open(plain)
    async with database.tenant(tenant) as session:
        arguments = {"args": f'{{"tenant_id": "{tenant}", "n": 1}}'}
        await session.execute(text("select enqueue_job('q', 'note', cast(:args as jsonb))"), arguments)
    await database.close()
    options = "-c search_path=jobs -c role=wattos_jobs"
    app = App(connector=PsycopgConnector(conninfo=plain, min_size=1, max_size=2, kwargs={"options": options}))

    @app.task(name="note")
    async def note(**args: object) -> None:
        done.append(args)

    async with app.open_async():
        await app.run_worker_async(queues=["q"], wait=False, install_signal_handlers=False, delete_jobs="successful")
    assert done == [{"tenant_id": str(tenant), "n": 1}]
    async with await psycopg.AsyncConnection.connect(plain, options=options) as connection:
        left = await (await connection.execute("select count(*) from procrastinate_jobs")).fetchone()
        assert left == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("select * from public.files")
