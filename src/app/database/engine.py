"""The engine and its two kinds of transactions: a tenant's, and those of narrow roles before a tenant is known.

Every pooled connection runs as `wattos_app`, which owns nothing and cannot bypass row-level security. `DATABASE_URL`'s
login must be a member of that role and of the narrow ones; the migrations grant it to the login that runs them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from uuid import UUID

from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.database.errors import DatabaseUnavailable, DatabaseUnfit

CONNECT_TIMEOUT_S = 5
"""A server that is there answers in milliseconds; across data centres, in tenths of a second."""

POOL_TIMEOUT_S = 5
"""How long a request waits for a free connection before it is answered 503."""

STATEMENT_TIMEOUT_MS = 30_000
"""No statement of ours takes seconds; one that does must not hold a connection for ever."""

MIN_SERVER = 150_000
"""PostgreSQL 15, as `server_version_num`."""

MIN_PGVECTOR = (0, 8, 4)
"""The first with iterative index scans that we rely on for filtered search."""


class Role(StrEnum):
    """Roles for the paths that run before a tenant is known. Each may read or write just what its path needs."""

    APP = "wattos_app"
    AUTH = "wattos_auth"
    """Whose key is this?"""
    PLATFORM = "wattos_platform"
    """The administrator's list of tenants and keys."""


class Database:
    """One engine with its pool. `open` connects and checks; nothing connects before."""

    def __init__(self, *, pool_size: int = 10) -> None:
        """`pool_size`: connections kept; as many again in a burst. Ten serve 1,000 statements of 10 ms a second."""
        self._pool_size = pool_size
        self._engine: AsyncEngine | None = None

    async def open(self, url: str) -> None:
        """Raises: DatabaseUnavailable, or DatabaseUnfit that says what to change."""
        self._engine = create_async_engine(
            async_url(url),
            pool_size=self._pool_size,
            max_overflow=self._pool_size,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "wattos",
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
            },
        )
        event.listen(self._engine.sync_engine, "connect", _become_the_app)
        try:
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
    async def tenant(self, tenant_id: UUID) -> AsyncIterator[AsyncSession]:
        """One transaction of one tenant; committed at the end. Add the explicit `tenant_id =` predicate too.

        Raises: DatabaseUnavailable.
        """
        async with self._transaction() as session:
            await session.execute(text("select set_config('app.tenant_id', :id, true)"), {"id": str(tenant_id)})
            yield session

    @asynccontextmanager
    async def role(self, role: Role) -> AsyncIterator[AsyncSession]:
        """One transaction as a narrow role, without a tenant. Raises: DatabaseUnavailable."""
        async with self._transaction() as session:
            if role is not Role.APP:
                await session.execute(text(f"set local role {role.value}"))
            yield session

    async def ping(self) -> None:
        """Raises: DatabaseUnavailable."""
        async with self._transaction() as session:
            await session.execute(text("select 1"))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncSession]:
        if self._engine is None:
            raise DatabaseUnavailable("the database is not open")
        try:
            async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except (PoolTimeout, InterfaceError) as exc:
            raise DatabaseUnavailable("the database is not available: try again") from exc
        except OperationalError as exc:
            raise DatabaseUnavailable("the database is not available: try again") from exc
        except DBAPIError as exc:
            if exc.connection_invalidated:
                raise DatabaseUnavailable("the connection to the database was lost: try again") from exc
            raise


def async_url(url: str) -> URL:
    """Any `postgresql://…` as psycopg's. Raises: DatabaseUnfit for another kind of database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql":
        raise DatabaseUnfit(f"DATABASE_URL must be postgresql://…, not {parsed.get_backend_name()}://…")
    return parsed.set(drivername="postgresql+psycopg")


def _become_the_app(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(f"set role {Role.APP.value}")
    cursor.close()
    connection.commit()


async def _refuse_unfit(session: AsyncSession) -> None:
    """The start-up guard: nothing is served on a server or with a role that could break a tenant's boundary."""
    version = int((await session.execute(text("show server_version_num"))).scalar_one())
    if version < MIN_SERVER:
        raise DatabaseUnfit(f"PostgreSQL {MIN_SERVER // 10_000} or newer is needed, this is {version // 10_000}")
    vector = (await session.execute(text("select extversion from pg_extension where extname = 'vector'"))).scalar()
    if vector is None or tuple(int(part) for part in vector.split(".")[:3]) < MIN_PGVECTOR:
        needed = ".".join(map(str, MIN_PGVECTOR))
        raise DatabaseUnfit(f"the extension pgvector {needed} or newer is needed, this is {vector or 'missing'}")
    may_bypass, owned = (
        await session.execute(
            text(
                """
                select r.rolsuper or r.rolbypassrls,
                       (select count(*) from pg_class c where c.relowner = r.oid and c.relkind in ('r', 'p'))
                from pg_roles r where r.rolname = current_user
                """
            )
        )
    ).one()
    if may_bypass or owned:
        raise DatabaseUnfit(
            f"the role {Role.APP.value} must not be superuser, have BYPASSRLS or own tables: tenants would not be apart"
        )
