"""The schema's way up and down, on the real server."""

from __future__ import annotations

import json
import re
from importlib import resources

import psycopg
import pytest

from app.database import migrate
from app.database.errors import DatabaseUnavailable, SchemaDrift
from plugins.contract.principal import DEFAULT_TENANT_ID
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


async def test_each_revision_goes_down_and_up_by_itself(cluster: Cluster) -> None:
    """The newest revision alone, too: that is what a release takes back."""
    url = await cluster.create_database()
    for _ in range(2):
        await migrate.downgrade(url, "-1")
        assert not await migrate.is_current(url)
        await migrate.upgrade(url)
        await migrate.check(url)


def test_files_are_named_for_their_revisions_in_one_line() -> None:
    """`YYYY-MM-DD-HHMM_slug.py`: the newest revision is known from the names, without Alembic."""
    previous = None
    for path in sorted((migrate.migrations_dir() / "versions").glob("*.py")):
        revision = re.fullmatch(r"(\d{4}-\d\d-\d\d-\d{4})_[a-z0-9_]+", path.stem)
        assert revision, path.name
        name = revision[1].replace("-", "_")
        assert f'revision = "{name}"' in path.read_text()
        assert f"down_revision = {previous and json.dumps(previous)}" in path.read_text()
        previous = name
    assert migrate.head() == previous


async def test_check_names_what_differs(cluster: Cluster) -> None:
    """A column or table that no declaration knows is drift; partitions of a declared table are not."""
    url = await cluster.create_database()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("alter table files add column surprise int")
        await connection.execute("create table chunks_extra (n int)")
    with pytest.raises(SchemaDrift, match="surprise") as caught:
        await migrate.check(url)
    assert "chunks_extra" in caught.value.message


OF_NO_TENANT = {"alembic_version": set(), "sign_in_failures": {"wattos_sign_in"}}
"""Tables without a tenant, and the roles that may have anything to do with them."""

WIDER = {
    ("tenants", "wattos_auth"),
    ("api_keys", "wattos_auth"),
    ("sessions", "wattos_auth"),
    ("users", "wattos_auth"),
    ("tenants", "wattos_sign_in"),
    ("users", "wattos_sign_in"),
    ("refresh_tokens", "wattos_sign_in"),
    ("tenants", "wattos_platform"),
    ("api_keys", "wattos_platform"),
    ("users", "wattos_platform"),
    ("audit_events", "wattos_platform"),
    ("audit_heads", "wattos_platform"),
    ("calls", "wattos_ledger"),
    ("usage_days", "wattos_ledger"),
    ("budgets", "wattos_ledger"),
    ("budget_spending", "wattos_ledger"),
    ("budget_leases", "wattos_ledger"),
    ("budget_alerts", "wattos_ledger"),
    ("idempotent_requests", "wattos_jobs"),
    ("loose_objects", "wattos_jobs"),
    ("vector_store_files", "wattos_jobs"),
}
"""Where a narrow role sees rows of all tenants: the paths before a tenant is known, and no others."""


async def test_every_tenant_table_has_forced_row_level_security_and_a_policy(cluster: Cluster) -> None:
    """A table with a tenant (partitions too) without forced row-level security or without a policy is a leak."""
    url = await cluster.create_database()
    rows = await query(
        url,
        """
        select c.relname, c.relrowsecurity, c.relforcerowsecurity,
               (select count(*) from pg_policies p where p.tablename = c.relname and p.policyname = 'own_tenant'
                and p.qual = p.with_check and p.qual ~ 'current_setting' and p.cmd = 'ALL')
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'public' and c.relkind in ('r', 'p')
        """,
    )
    assert len(rows) >= 16 + 16
    assert [row for row in rows if row[0] not in OF_NO_TENANT and row[1:] != (True, True, 1)] == []


async def test_only_named_roles_see_beyond_a_tenant(cluster: Cluster) -> None:
    """Each policy beside a tenant's own is for one narrow role, and on this list; so is who may touch other tables."""
    url = await cluster.create_database()
    wider = await query(
        url,
        "select tablename, unnest(roles) from pg_policies where schemaname = 'public' and policyname <> 'own_tenant'",
    )
    assert {tuple(row) for row in wider if row[0] not in OF_NO_TENANT} == WIDER
    grants = await query(
        url,
        "select table_name, grantee from information_schema.role_table_grants"
        " where table_schema = 'public' and grantee like 'wattos%'",
    )
    for table, roles in OF_NO_TENANT.items():
        assert {role for name, role in grants if name == table} == roles


async def test_the_app_itself_cannot_read_password_hashes_or_rewrite_the_audit_log(cluster: Cluster) -> None:
    """Whatever a mistake in a statement makes the app's own role ask for."""
    url = await cluster.create_database()
    for statement in (
        "select password_hash from users",
        "update audit_events set payload = '{}'",
        "delete from audit_events",
        "insert into audit_events (tenant_id, sequence, id, payload, hash)"
        " values (gen_random_uuid(), 1, gen_random_uuid(), '{}', '')",
        "update audit_heads set sequence = 0",
        "select * from sign_in_failures",
    ):
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("set role wattos_app")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(statement.encode())


async def test_the_queue_has_all_that_the_installed_procrastinate_ships(cluster: Cluster) -> None:
    """An upgrade of procrastinate that brings a migration needs one of ours."""
    shipped = {f.name for f in resources.files("procrastinate.sql.migrations").iterdir() if f.name.endswith(".sql")}
    ours = "".join(path.read_text() for path in (migrate.migrations_dir() / "versions").glob("*.py"))
    assert shipped
    assert [name for name in sorted(shipped) if f'"{name}"' not in ours] == []


async def test_an_unreachable_server_is_one_clear_error() -> None:
    """No stack trace, no password: what to look at."""
    with pytest.raises(DatabaseUnavailable, match="DATABASE_URL") as caught:
        await migrate.is_current("postgresql://user:hunter2@127.0.0.1:9/db", wait_s=0)
    assert "hunter2" not in caught.value.message


async def test_the_default_tenant_is_there(cluster: Cluster) -> None:
    """Whoever is anonymous belongs to it: its id is known to the code."""
    url = await cluster.create_database()
    assert await query(url, "select id, slug from tenants") == [(DEFAULT_TENANT_ID, "default")]
