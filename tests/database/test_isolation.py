"""Tenancy is PostgreSQL's to enforce: what a tenant's transaction can see and do."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.database.engine import Database, Role
from plugins.contract.credentials import key_handle

A, B = uuid4(), uuid4()


@pytest.fixture
async def two_tenants(database: Database) -> Database:
    for tenant in (A, B):
        async with database.tenant(tenant) as session:
            await session.execute(
                text("insert into tenants (id, name, slug) values (:id, 'x', :slug)"),
                {"id": tenant, "slug": tenant.hex},
            )
            await insert_store(session, tenant)
    return database


async def insert_store(session: object, tenant: UUID) -> None:
    await session.execute(  # type: ignore[attr-defined]
        text("insert into vector_stores (tenant_id, id, embedding_model) values (:t, :i, 'm')"),
        {"t": tenant, "i": uuid4()},
    )


async def test_a_tenant_sees_its_own_rows_alone(two_tenants: Database) -> None:
    """Without any predicate, only its own rows are there."""
    async with two_tenants.tenant(A) as session:
        assert set((await session.execute(text("select tenant_id from vector_stores"))).scalars()) == {A}
        assert set((await session.execute(text("select id from tenants"))).scalars()) == {A}


async def test_a_tenant_cannot_write_for_another(two_tenants: Database) -> None:
    """An insert for somebody else is refused by the policy; an update or delete finds nothing."""
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with two_tenants.tenant(A) as session:
            await insert_store(session, B)
    async with two_tenants.tenant(A) as session:
        gone = await session.execute(text("delete from vector_stores where tenant_id = :b returning 1"), {"b": B})
        assert gone.all() == []


async def test_without_a_tenant_nothing_is_there(two_tenants: Database) -> None:
    """No tenant, no rows: also on a connection that served a tenant before."""
    async with two_tenants.tenant(A) as session:
        assert (await session.execute(text("select count(*) from vector_stores"))).scalar_one() == 1
    async with two_tenants.role(Role.APP) as session:
        assert (await session.execute(text("select count(*) from vector_stores"))).scalar_one() == 0


async def test_the_key_lookup_role_reads_what_it_needs_and_nothing_else(two_tenants: Database) -> None:
    """Before a tenant is known: key columns across tenants, no other table."""
    async with two_tenants.role(Role.AUTH) as session:
        assert (await session.execute(text("select count(key_hash) from api_keys"))).scalar_one() == 0
    for forbidden in ("select name from api_keys", "select * from files", "delete from api_keys"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with two_tenants.role(Role.AUTH) as session:
                await session.execute(text(forbidden))


async def test_a_job_for_another_tenant_is_refused(two_tenants: Database) -> None:
    """The only way into the queue checks the tenant, and that there is one."""
    enqueue = text("select enqueue_job('q', 'ingest', cast(:args as jsonb))")
    async with two_tenants.tenant(A) as session:
        job = await session.execute(enqueue, {"args": f'{{"tenant_id": "{A}"}}'})
        assert job.scalar_one() > 0
    with pytest.raises(ProgrammingError, match="current tenant"):
        async with two_tenants.tenant(A) as session:
            await session.execute(enqueue, {"args": f'{{"tenant_id": "{B}"}}'})
    for args in ("{}", f'{{"tenant_id": "{A}"}}', '{"tenant_id": ""}', '{"tenant_id": null}'):
        with pytest.raises(ProgrammingError, match="current tenant"):
            async with two_tenants.role(Role.APP) as session:
                await session.execute(enqueue, {"args": args})
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with two_tenants.tenant(A) as session:
            await session.execute(text("select * from jobs.procrastinate_jobs"))


async def test_the_platform_role_sees_all_tenants_and_no_hash(two_tenants: Database) -> None:
    """The administrator's lists go across tenants; what a key's hash is, they need not know."""
    async with two_tenants.role(Role.PLATFORM) as session:
        assert set((await session.execute(text("select id from tenants"))).scalars()) >= {A, B}
    for forbidden in ("select key_hash from api_keys", "select * from vector_stores", "delete from tenants"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with two_tenants.role(Role.PLATFORM) as session:
                await session.execute(text(forbidden))


async def test_every_change_of_a_key_is_announced(two_tenants: Database, database_url: str) -> None:
    """Caches of keys listen: made, changed and deleted keys are named by their handle, after the commit alone."""
    key = uuid4()
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute("listen changes")
        for statement in (
            "insert into api_keys (tenant_id, id, name, prefix, key_hash) values (:t, :k, 'n', 'p', 'hash')",
            "update api_keys set revoked_at = now() where tenant_id = :t and id = :k",
            "delete from api_keys where tenant_id = :t and id = :k",
        ):
            async with two_tenants.tenant(A) as session:
                await session.execute(text(statement), {"t": A, "k": key})
            heard = [n.payload async for n in listener.notifies(timeout=5, stop_after=1)]
            assert heard == [key_handle(b"hash").hex()]
