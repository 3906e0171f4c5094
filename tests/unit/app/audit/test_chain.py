"""The chain of events on a real database: whatever is changed, removed or put in is found, and where."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.accounts.model import Tenant
from app.accounts.passwords import Passwords
from app.accounts.service import AccountsService
from app.accounts.users.schemas import UserCreate
from app.accounts.users.service import UsersService
from app.audit.model import COMMAND_LINE, PLATFORM_CHAIN, Actor, Change
from app.audit.record import record
from app.audit.verify import verify
from app.commands import PLATFORM
from app.database.engine import Database, Role
from app.operations.audit.service import ERASED, AuditService
from server import environment, wattos

pytestmark = pytest.mark.requirement("SEC-2")

N_EVENTS = 6


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    """With six events."""
    accounts = AccountsService(database)
    made = await accounts.create_tenant(COMMAND_LINE, name="x", slug="school")
    for n in range(N_EVENTS - 1):
        await accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=made.id, name=f"key {n}")
    return made


async def broken(database: Database, tenant_id: UUID) -> str | None:
    (found,) = [chain async for chain in verify(database) if chain.tenant_id == tenant_id]
    return found.broken


async def tamper(url: str, *statements: str) -> None:
    """As a superuser who knows how to get around the triggers."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("set session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement.encode())


async def test_an_untouched_log_is_whole(database: Database, tenant: Tenant) -> None:
    """Also while others append to it, each in their turn."""
    accounts = AccountsService(database)
    await asyncio.gather(
        *(accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name=str(n)) for n in range(10)),
        *(broken(database, tenant.id) for _ in range(3)),
    )
    (found,) = [chain async for chain in verify(database) if chain.tenant_id == tenant.id]
    assert (found.broken, found.n_events) == (None, N_EVENTS + 10)


TAMPERING = {
    "changed": ("update audit_events set payload = replace(payload, 'key 2', 'key 9') where sequence = 4", "event 4"),
    "changed by a space": ("update audit_events set payload = payload || ' ' where sequence = 3", "event 3"),
    "another id": ("update audit_events set id = gen_random_uuid() where sequence = 2", "event 2"),
    "removed": ("delete from audit_events where sequence = 3", "1 removed before event 4"),
    "first removed": ("delete from audit_events where sequence = 1", "1 removed before event 2"),
    "last removed": (f"delete from audit_events where sequence = {N_EVENTS}", "removed from its end"),
    "all removed": ("delete from audit_events", "removed from its end"),
    "last removed with its head": (
        f"delete from audit_events where sequence = {N_EVENTS};update audit_heads set sequence = {N_EVENTS - 1}",
        "removed from its end",
    ),
    "head removed": ("delete from audit_heads", "removed from its end"),
    "inserted at the end": (
        "insert into audit_events (tenant_id, sequence, id, payload, hash)"
        f" select tenant_id, {N_EVENTS + 1}, gen_random_uuid(), payload, hash from audit_events where sequence = 2",
        f"event {N_EVENTS + 1}",
    ),
    "inserted before the first": (
        "insert into audit_events (tenant_id, sequence, id, payload, hash)"
        " select tenant_id, 0, gen_random_uuid(), payload, hash from audit_events where sequence = 1",
        "before 1",
    ),
    "swapped": (
        "update audit_events set sequence = -1 where sequence = 2;"
        "update audit_events set sequence = 2 where sequence = 3;"
        "update audit_events set sequence = 3 where sequence = -1",
        "event 2",
    ),
    "given to another": (
        "update audit_events set tenant_id = '00000000-0000-0000-0000-000000000001' where sequence = 6",
        "removed from its end",
    ),
}


@pytest.mark.parametrize("how", TAMPERING)
async def test_tampering_is_found_and_where(database: Database, database_url: str, tenant: Tenant, how: str) -> None:
    """By somebody with all rights on the database."""
    statements, said = TAMPERING[how]
    assert await broken(database, tenant.id) is None
    await tamper(database_url, *statements.split(";"))
    assert said in (await broken(database, tenant.id) or "whole")


async def test_the_command_says_so(database_url: str, tenant: Tenant, tmp_path: Path) -> None:
    """Exit code 0 with each chain's head, 1 with what is wrong."""
    env = environment(tmp_path, DATABASE_URL=database_url)
    whole = await asyncio.to_thread(wattos, env, "audit", "verify")
    assert whole.returncode == 0, whole.stderr
    assert f"ten_{tenant.id.hex}" in whole.stdout
    assert f"{N_EVENTS} events" in whole.stdout
    await tamper(database_url, "delete from audit_events where sequence = 3")
    wrong = await asyncio.to_thread(wattos, env, "audit", "verify")
    assert wrong.returncode == 1
    assert "1 removed before event 4" in wrong.stderr


async def test_a_log_made_anew_is_found_by_its_old_heads(
    database_url: str, database: Database, tenant: Tenant, tmp_path: Path
) -> None:
    """Whoever can write everything can also compute every hash: what was printed before tells on them."""
    env = environment(tmp_path, DATABASE_URL=database_url)
    heads = tmp_path / "heads.txt"
    heads.write_text((await asyncio.to_thread(wattos, env, "audit", "verify")).stdout)
    await AccountsService(database).create_key(PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name="later")
    grown = await asyncio.to_thread(wattos, env, "audit", "verify", "--heads", str(heads))
    assert grown.returncode == 0, grown.stderr
    await tamper(
        database_url,
        "delete from audit_events where sequence >= 6",
        "update audit_heads h set (sequence, hash) = (select sequence, hash from audit_events e"
        " where e.tenant_id = h.tenant_id order by sequence desc limit 1)",
    )
    assert await broken(database, tenant.id) is None
    cut = await asyncio.to_thread(wattos, env, "audit", "verify", "--heads", str(heads))
    assert cut.returncode == 1
    assert "made anew" in cut.stderr


async def test_the_owner_too_is_stopped_by_a_trigger(database_url: str, tenant: Tenant) -> None:
    """An accident is none: who means it has to say so first."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        for statement in ("update audit_events set payload = ''", "delete from audit_events", "truncate audit_events"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                await connection.execute(statement.encode())


async def test_an_event_is_of_the_current_tenant_alone(database: Database) -> None:
    """There is no way to append to another's chain, nor to one of nobody."""
    async with database.tenant(PLATFORM_CHAIN) as session:
        await record(session, PLATFORM_CHAIN, COMMAND_LINE, Change(action="models.reloaded", kind="models"))
    with pytest.raises(ProgrammingError, match="needs a tenant"):
        async with database.role(Role.APP) as session:
            await session.execute(text("select append_audit_event(gen_random_uuid(), '{}')"))


async def test_a_change_that_fails_leaves_no_event_and_no_event_no_change(database: Database, tenant: Tenant) -> None:
    """They are one transaction."""
    users = UsersService(database, Passwords())
    await users.create(PLATFORM, COMMAND_LINE, tenant.id, UserCreate(email="a@b.example"))
    for _ in range(2):
        with pytest.raises(Exception, match="already"):
            await users.create(PLATFORM, COMMAND_LINE, tenant.id, UserCreate(email="A@b.example"))
    (chain,) = [chain async for chain in verify(database) if chain.tenant_id == tenant.id]
    assert (chain.n_events, chain.broken) == (N_EVENTS + 1, None)


async def test_who_is_erased_is_forgotten_and_the_chain_stays_whole(
    database: Database, database_url: str, tenant: Tenant
) -> None:
    """Name, address, and what they did as themselves: a pseudonym stands there that stands for nobody any more."""
    users, log = UsersService(database, Passwords()), AuditService(database)
    anna = await users.create(PLATFORM, COMMAND_LINE, tenant.id, UserCreate(email="anna@b.example", name="Anna"))
    ben = await users.create(PLATFORM, COMMAND_LINE, tenant.id, UserCreate(email="ben@b.example", role="admin"))
    acting = Actor(kind="user", id=anna.id, address="192.0.2.7")
    await AccountsService(database).create_key(PLATFORM, acting, tenant_id=tenant.id, name="hers", user_id=anna.id)
    told = str((await log.events(tenant.id, limit=100, after=None, action=None)).items)
    assert all(word in told for word in ("anna@b.example", "Anna", "192.0.2.7", anna.id.hex))

    await users.delete(PLATFORM, COMMAND_LINE, tenant.id, anna.id, erase=True)
    events = (await log.events(tenant.id, limit=100, after=None, action=None)).items
    assert not any(word in str(events) for word in ("anna@b.example", "Anna", "192.0.2.7", anna.id.hex))
    assert "ben@b.example" in str(events)
    created = next(event for event in events if event.action == "key.created" and event.actor["kind"] == "user")
    assert (created.actor["id"], created.address) == (ERASED, ERASED)
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        for table in ("audit_events", "audit_subjects"):
            rows = await (await connection.execute(f"select {table}::text from {table}".encode())).fetchall()
            assert not any(word in str(rows) for word in ("anna@b.example", "Anna", "192.0.2.7", anna.id.hex))
    assert await broken(database, tenant.id) is None
    assert ben.role == "admin"
