"""Schema upgrades. Alembic is imported only when there is something to do: a current database costs one query."""

from __future__ import annotations

import asyncio
import importlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import Connection, MetaData, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

import app
from app.database.errors import DatabaseUnavailable, DatabaseUnfit, SchemaDrift
from app.database.server import CONNECT_TIMEOUT_S, UNREACHABLE, WAIT_S, async_url, plain_url, wait_until_up

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "alembic_version"

TABLE_MODULES = (
    *("app.accounts.tables", "app.accounts.users.tables", "app.accounts.sign_in.tables"),
    *("app.audit.tables", "app.billing.tables", "app.provider_keys.tables", "app.prices.tables"),
    *("app.billing.budgets.tables", "app.idempotency.tables"),
    "app.limits.tables",
    *("app.knowledge.files.tables", "app.knowledge.stores.tables"),
)
"""Where tables are declared. Named, not imported: the database room must not know the features."""

MIGRATION_LOCK = 0x57A770
"""Advisory lock: of two processes that start at once, one migrates and the other waits."""

MIGRATION_WAIT_MS = 600_000
"""How long the other waits: an index over millions of chunks takes minutes."""

LOCK_TIMEOUT_MS = 10_000
"""A migration that waits longer for a table's lock gives up, rather than block all traffic behind it."""


_ONE_AT_A_TIME = threading.Lock()
"""Within this process: Alembic's `op` and `context` are global to it."""


def migrations_dir() -> Path:
    """`migrations/` beside `src/` in a checkout, beside the package `app` when installed as a wheel."""
    package = Path(app.__path__[0])
    for parent in (package.parent.parent, package.parent):
        if (parent / "migrations" / "env.py").is_file():
            return parent / "migrations"
    raise FileNotFoundError("the folder `migrations` is missing from this installation")


def head() -> str:
    """The newest revision, from the files' names: `YYYY-MM-DD-HHMM_slug.py` sorts by time and holds the revision."""
    newest = max(path.stem for path in (migrations_dir() / "versions").glob("*.py"))
    return newest.partition("_")[0].replace("-", "_")  # Alembic allows no dash in a revision


def is_ours(_object: object, name: str | None, kind: str, reflected: bool, _compare_to: object) -> bool:
    """Leaves out partitions, `<table>_<number>`: declared is the table that they are part of."""
    table, _, number = (name or "").rpartition("_")
    if kind != "table" or not reflected or not number.isdigit():
        return True
    whole = target_metadata().tables.get(table)
    return whole is None or not whole.dialect_options["postgresql"]["partition_by"]


def target_metadata() -> MetaData:
    """What the declarations say."""
    from app.database.base import Base

    for module in TABLE_MODULES:
        importlib.import_module(module)
    return Base.metadata


async def is_current(url: str, wait_s: float = WAIT_S) -> bool:
    """Whether nothing is to be done: 5 ms. Raises: DatabaseUnavailable when it cannot be reached for `wait_s`."""
    await wait_until_up(url, wait_s)
    try:
        async with await psycopg.AsyncConnection.connect(
            plain_url(url), connect_timeout=CONNECT_TIMEOUT_S
        ) as connection:
            found = await connection.execute("select to_regclass(%s)", [f"public.{VERSION_TABLE}"])
            row = await found.fetchone()
            if row is None or row[0] is None:
                return False
            version = await (await connection.execute("select version_num from public.alembic_version")).fetchone()
            return version is not None and version[0] == head()
    except psycopg.errors.InsufficientPrivilege:
        return False  # the newest revision lets everyone read it
    except psycopg.OperationalError as exc:
        raise DatabaseUnavailable(UNREACHABLE) from exc


async def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema up. All or nothing. Raises: DatabaseUnavailable, DatabaseUnfit for a login that may not."""
    await asyncio.to_thread(_run, url, "upgrade", revision)


async def downgrade(url: str, revision: str) -> None:
    """Take the schema down to a revision (`base`: to nothing)."""
    await asyncio.to_thread(_run, url, "downgrade", revision)


async def check(url: str) -> None:
    """Raises: SchemaDrift when declarations and database differ, or the database is not at the newest revision."""
    if not await is_current(url):
        raise SchemaDrift("the database is not at the newest revision: run `wattos db upgrade`")
    differences = await asyncio.to_thread(_differences, url)
    if differences:
        shown = "; ".join(str(d) for d in differences[:3])
        raise SchemaDrift(f"{len(differences)} differences between tables and declarations: {shown}")


def _run(url: str, command: str, revision: str) -> None:
    from alembic import command as commands

    with _ONE_AT_A_TIME, _locked(url) as connection:
        config = _config()
        config.attributes["connection"] = connection
        try:
            getattr(commands, command)(config, revision)
            connection.commit()
        except OperationalError as exc:
            raise DatabaseUnavailable(f"the schema's {command} was rolled back: {_reason(exc)}") from exc
        except ProgrammingError as exc:
            if not isinstance(exc.orig, psycopg.errors.InsufficientPrivilege):
                raise
            raise DatabaseUnfit(
                f"this login may not change the schema ({_reason(exc)}):"
                " give the database's owner, who may create roles, as DATABASE_MIGRATION_URL"
            ) from exc


def _reason(exc: OperationalError | ProgrammingError) -> str:
    return str(exc.orig).partition("\n")[0]


def _differences(url: str) -> list[Any]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with _locked(url) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_object": is_ours, "version_table": VERSION_TABLE}
        )
        return list(compare_metadata(context, target_metadata()))


class _locked:  # noqa: N801  # used as a function
    """A connection as the owner, holding the migration lock."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(async_url(url), connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
        self._connection: Connection | None = None

    def __enter__(self) -> Connection:
        try:
            self._connection = self._engine.connect()
        except OperationalError as exc:
            self._engine.dispose()
            raise DatabaseUnavailable(UNREACHABLE) from exc
        try:
            self._connection.execute(text(f"set lock_timeout = {MIGRATION_WAIT_MS}"))
            self._connection.execute(text(f"select pg_advisory_lock({MIGRATION_LOCK})"))
            self._connection.execute(text(f"set lock_timeout = {LOCK_TIMEOUT_MS}"))
            self._connection.commit()
        except OperationalError as exc:
            self.__exit__()
            raise DatabaseUnavailable("another process has been changing the schema for too long") from exc
        return self._connection

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()  # the lock goes with the session
        self._engine.dispose()


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
