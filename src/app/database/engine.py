"""The engine and its two kinds of transactions: a tenant's, and those of narrow roles before a tenant is known.

Every pooled connection runs as `wattos_app`, which owns nothing and cannot bypass row-level security. `DATABASE_URL`'s
login must be a member of that role, of the narrow ones and of the worker's `wattos_jobs`; the migrations grant them to
the login that runs them. A pooler in between must keep sessions: the role belongs to the session.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import StrEnum
from uuid import UUID

import psycopg
from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.database.errors import DatabaseUnavailable, DatabaseUnfit
from app.database.instruments import DatabaseInstruments
from app.database.server import CONNECT_TIMEOUT_S, async_url, wait_until_up
from app.errors import InvalidRequest
from plugins.contract.errors import CircuitOpen
from plugins.contract.nulls import NullGuard
from plugins.contract.ports import Guard, Meter, SlowLog

__all__ = ["CONNECT_TIMEOUT_S", "Database", "Role", "async_url"]

POOL_TIMEOUT_S = 5.0
"""How long a request waits for a free connection before it is answered 503."""

CHECKOUT_TIMEOUT_S = 10.0
"""A free connection, looked at or made anew: the two before. A frozen server must not hold a request for ever; its
driver takes up to 10 s more to give a connection up (psycopg's own cancellation)."""

BREAKER = "postgres"
"""In the guard. It counts connections that cannot be had, and no statement that fails; whoever has the answer in memory
(`plugins.contract.remembered`) does not come here."""

AGAIN_S = 2.0
"""When to try again while it is open: the health check, which does not ask it, closes it a second after the return."""

STATEMENT_TIMEOUT_MS = 30_000
"""No statement of ours takes seconds; one that does must not hold a connection for ever."""

FULL = re.compile(r"too many (clients|connections)|connection slots are reserved|no more connections allowed")
"""What a server or a pooler says that has no connection left: a refused one has no SQLSTATE to go by. Where messages
are in another language, it counts as away."""

MIN_SERVER = 150_000
"""PostgreSQL 15, as `server_version_num`."""

MIN_PGVECTOR = (0, 8, 4)
"""The first with iterative index scans that we rely on for filtered search."""


class Role(StrEnum):
    """Roles for the paths that run before a tenant is known. Each may read or write just what its path needs."""

    APP = "wattos_app"
    AUTH = "wattos_auth"
    """Whose key, session or external name is this? And when was a key last used?"""
    SIGN_IN = "wattos_sign_in"
    """Who has this name, password or refresh token? And how often did they fail lately?"""
    PLATFORM = "wattos_platform"
    """The administrator's list of tenants, users and keys, and the audit log of all of them."""
    LEDGER = "wattos_ledger"
    """Entering calls, whichever tenant made them."""
    JOBS = "wattos_jobs"
    """How many jobs are there, of all tenants?"""


class Database:
    """One engine with its pool. `open` connects and checks; nothing connects before."""

    def __init__(
        self,
        *,
        pool_size: int = 10,
        pool_timeout_s: float = POOL_TIMEOUT_S,
        checkout_timeout_s: float = CHECKOUT_TIMEOUT_S,
    ) -> None:
        """`pool_size`: connections kept; as many again in a burst. Ten serve 1,000 statements of 10 ms a second."""
        self._pool_size = pool_size
        self._pool_timeout_s = pool_timeout_s
        self._checkout_timeout_s = checkout_timeout_s
        self._engine: AsyncEngine | None = None
        self._instruments = DatabaseInstruments()
        self._guard: Guard = NullGuard()

    def guard_with(self, guard: Guard) -> None:
        """The database is made before the guard is known."""
        self._guard = guard

    def observe_with(self, meter: Meter, slow_log: SlowLog) -> None:
        """Before `open`. The database is made before either is known."""
        self._instruments = DatabaseInstruments(meter, slow_log)
        meter.sample(self._sample)

    async def open(self, url: str) -> None:
        """Raises: DatabaseUnavailable, or DatabaseUnfit that says what to change."""
        self._engine = create_async_engine(
            async_url(url),
            pool_size=self._pool_size,
            max_overflow=self._pool_size,
            pool_timeout=self._pool_timeout_s,
            pool_pre_ping=True,
            hide_parameters=True,  # a statement's values may be text of documents, and errors are logged
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "wattos",
                # A network that swallows packets is noticed after about 30 s; a server's end, at once.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 4,
                "tcp_user_timeout": STATEMENT_TIMEOUT_MS,
            },
        )
        event.listen(self._engine.sync_engine, "connect", _become_the_app)
        self._instruments.listen_to(self._engine.sync_engine)
        try:
            await wait_until_up(url)
            async with self.role(Role.APP) as session:
                await _refuse_unfit(session)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    @asynccontextmanager
    async def tenant(self, tenant_id: UUID) -> AsyncGenerator[AsyncSession]:
        """One transaction of one tenant; committed at the end. Add the explicit `tenant_id =` predicate too.

        Raises: DatabaseUnavailable.
        """
        async with self._transaction() as session:
            await session.execute(text("select set_config('app.tenant_id', :id, true)"), {"id": str(tenant_id)})
            yield session

    @asynccontextmanager
    async def role(self, role: Role) -> AsyncGenerator[AsyncSession]:
        """One transaction as a narrow role, without a tenant. Raises: DatabaseUnavailable."""
        async with self._transaction() as session:
            if role is not Role.APP:
                await session.execute(text(f"set local role {role.value}"))
            yield session

    async def ping(self) -> None:
        """Past the breaker, which it closes again. Raises: DatabaseUnavailable."""
        async with self._transaction(NullGuard()) as session:
            await session.execute(text("select 1"))

    @asynccontextmanager
    async def _transaction(self, guard: Guard | None = None) -> AsyncGenerator[AsyncSession]:
        if self._engine is None:
            raise DatabaseUnavailable("the database is not open")
        try:
            with self._instruments.transaction():
                async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
                    with self._instruments.waiting():
                        await self._check_out(session, guard or self._guard)
                    yield session
        except (PoolTimeout, InterfaceError) as exc:
            raise DatabaseUnavailable("the database is not available: try again") from exc
        except OperationalError as exc:
            raise DatabaseUnavailable("the database is not available: try again") from exc
        except DataError as exc:  # NUL in a text, a number out of range: what was sent cannot be stored or compared
            raise InvalidRequest("a value has a form that the database does not take", code="invalid_value") from exc
        except DBAPIError as exc:
            if exc.connection_invalidated:
                raise DatabaseUnavailable("the connection to the database was lost: try again") from exc
            raise

    async def _sample(self) -> None:
        if self._engine is not None:
            self._instruments.sample(self._engine.pool)

    async def _check_out(self, session: AsyncSession, guard: Guard) -> None:
        try:
            await guard.call(BREAKER, functools.partial(self._connect, session), retry=False)
        except CircuitOpen:
            message = "the database did not answer, and is not asked for now: try again"
            raise DatabaseUnavailable(message, retry_after_s=AGAIN_S) from None

    async def _connect(self, session: AsyncSession) -> None:
        """Raises: DatabaseUnavailable, which counts. All pooled connections in use, or all of the server's, do not: it
        is there. Unless it has said nothing on them for as long as we waited."""
        try:
            async with asyncio.timeout(self._checkout_timeout_s):
                await session.connection()
        except TimeoutError as exc:
            raise DatabaseUnavailable("the database does not answer: try again") from exc
        except PoolTimeout as exc:
            if not self._instruments.is_silent(self._pool_size, self._pool_timeout_s):
                raise
            raise DatabaseUnavailable("the database does not answer: try again") from exc
        except OperationalError as exc:
            if FULL.search(str(exc.orig)):
                raise
            raise DatabaseUnavailable("the database is not available: try again") from exc


def _become_the_app(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute(
            f"set role {Role.APP.value}; set statement_timeout = {STATEMENT_TIMEOUT_MS}; set timezone = 'UTC'"
        )
    except psycopg.OperationalError as exc:
        raise DatabaseUnavailable("the database is not available: try again") from exc
    except psycopg.DatabaseError as exc:
        raise DatabaseUnfit(f"DATABASE_URL's login must be a member of the role {Role.APP.value}") from exc
    finally:
        cursor.close()
    connection.commit()


async def _refuse_unfit(session: AsyncSession) -> None:
    """The start-up guard: nothing is served on a server or with a role that could break a tenant's boundary."""
    version = int((await session.execute(text("show server_version_num"))).scalar_one())
    if version < MIN_SERVER:
        raise DatabaseUnfit(f"PostgreSQL {MIN_SERVER // 10_000} or newer is needed, this is {version // 10_000}")
    vector = (await session.execute(text("select extversion from pg_extension where extname = 'vector'"))).scalar()
    if vector is None or tuple(map(int, re.findall(r"\d+", vector)[:3])) < MIN_PGVECTOR:
        needed = ".".join(map(str, MIN_PGVECTOR))
        raise DatabaseUnfit(f"the extension pgvector {needed} or newer is needed, this is {vector or 'missing'}")
    may_bypass, owns = (
        await session.execute(
            text(
                """
                select exists (select from pg_roles r
                               where (r.rolsuper or r.rolbypassrls) and pg_has_role(current_user, r.oid, 'member')),
                       exists (select from pg_class c
                               where c.relrowsecurity and pg_has_role(current_user, c.relowner, 'member'))
                """
            )
        )
    ).one()
    if may_bypass or owns:
        raise DatabaseUnfit(
            f"the role {Role.APP.value} must not be superuser, have BYPASSRLS or own tables, nor be a member of a role"
            " that is or does: tenants would not be apart"
        )
