"""Schema upgrades. Alembic is imported only when there is something to do: a current database costs one query."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import Connection, MetaData, create_engine, text
from sqlalchemy.exc import OperationalError

import app
from app.database.engine import CONNECT_TIMEOUT_S, async_url
from app.database.errors import DatabaseUnavailable, SchemaDrift

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "alembic_version"

TABLE_MODULES = ("app.accounts.tables", "app.knowledge.files.tables", "app.knowledge.stores.tables")
"""Where tables are declared. Named, not imported: the database room must not know the features."""

MIGRATION_LOCK = 0x57A770
"""Advisory lock: of two processes that start at once, one migrates and the other waits."""

LOCK_TIMEOUT_MS = 10_000
"""A migration that waits longer for a table's lock gives up, rather than block all traffic behind it."""


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


def is_ours(_object: object, name: str | None, kind: str, _reflected: bool, _compare_to: object) -> bool:
    """Leaves out what our declarations do not name: partitions of `chunks`."""
    return not (kind == "table" and name is not None and name.startswith("chunks_"))


def target_metadata() -> MetaData:
    """What the declarations say."""
    from app.database.base import Base

    for module in TABLE_MODULES:
        importlib.import_module(module)
    return Base.metadata


async def is_current(url: str) -> bool:
    """Whether nothing is to be done. Raises: DatabaseUnavailable."""
    plain = async_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        async with await psycopg.AsyncConnection.connect(plain, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            found = await connection.execute("select to_regclass(%s)", [f"public.{VERSION_TABLE}"])
            row = await found.fetchone()
            if row is None or row[0] is None:
                return False
            version = await (await connection.execute("select version_num from public.alembic_version")).fetchone()
            return version is not None and version[0] == head()
    except psycopg.OperationalError as exc:
        raise DatabaseUnavailable("the database cannot be reached: is DATABASE_URL right, is the server up?") from exc


async def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema up. All or nothing. Raises: DatabaseUnavailable."""
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

    with _locked(url) as connection:
        config = _config()
        config.attributes["connection"] = connection
        getattr(commands, command)(config, revision)
        connection.commit()


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
            raise DatabaseUnavailable("the database cannot be reached: is DATABASE_URL right?") from exc
        self._connection.execute(text(f"set lock_timeout = {LOCK_TIMEOUT_MS}"))
        self._connection.execute(text(f"select pg_advisory_lock({MIGRATION_LOCK})"))
        self._connection.commit()
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
