"""The schema's way up and down, on the real server."""

from __future__ import annotations

from importlib import resources

import psycopg
import pytest

from app.database import migrate
from app.database.errors import DatabaseUnavailable, SchemaDrift
from postgres import Cluster


async def query(url: str, statement: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute(statement.encode())).fetchall()


async def test_upgrade_check_downgrade_and_upgrade_again(cluster: Cluster) -> None:
    """Up gives exactly the declared schema, down leaves nothing, and up works again."""
    url = await cluster.create_database(empty=True)
    assert not await migrate.is_current(url)
    with pytest.raises(SchemaDrift, match="wattos db upgrade"):
        await migrate.check(url)
    await migrate.upgrade(url)
    assert await migrate.is_current(url)
    await migrate.check(url)
    await migrate.downgrade(url, "base")
    left = await query(
        url,
        "select relname from pg_class c join pg_namespace n on n.oid = relnamespace"
        " where nspname in ('public', 'jobs') and relname <> 'alembic_version' and relname <> 'alembic_version_pkc'",
    )
    assert left == []
    await migrate.upgrade(url)
    await migrate.check(url)


async def test_check_names_what_differs(cluster: Cluster) -> None:
    """A column that no declaration knows is drift."""
    url = await cluster.create_database()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("alter table files add column surprise int")
    with pytest.raises(SchemaDrift, match="surprise"):
        await migrate.check(url)


async def test_every_tenant_table_has_forced_row_level_security_and_a_policy(cluster: Cluster) -> None:
    """A table with a tenant (partitions too) without forced row-level security or without a policy is a leak."""
    url = await cluster.create_database()
    rows = await query(
        url,
        """
        select c.relname, c.relrowsecurity, c.relforcerowsecurity,
               (select count(*) from pg_policies p where p.tablename = c.relname and p.policyname = 'own_tenant'
                and p.qual is not null and p.with_check is not null)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'public' and c.relkind in ('r', 'p') and c.relname <> 'alembic_version'
        """,
    )
    assert len(rows) >= 7 + 16
    assert [row for row in rows if row[1:] != (True, True, 1)] == []


async def test_the_queue_has_all_that_the_installed_procrastinate_ships(cluster: Cluster) -> None:
    """An upgrade of procrastinate that brings a migration needs one of ours."""
    shipped = {f.name for f in resources.files("procrastinate.sql.migrations").iterdir() if f.name.endswith(".sql")}
    ours = "".join(path.read_text() for path in (migrate.migrations_dir() / "versions").glob("*.py"))
    assert shipped
    assert [name for name in sorted(shipped) if f'"{name}"' not in ours] == []


async def test_an_unreachable_server_is_one_clear_error() -> None:
    """No stack trace, no password: what to look at."""
    with pytest.raises(DatabaseUnavailable, match="DATABASE_URL") as caught:
        await migrate.is_current("postgresql://user:hunter2@127.0.0.1:9/db")
    assert "hunter2" not in caught.value.message
