"""Real PostgreSQL for tests: one embedded server a session, one migrated database a test, cloned from a template."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from sqlalchemy.engine import make_url

from app.database.embedded import embedded_postgres
from app.database.migrate import upgrade

TEMPLATE = "wattos_template"


class Cluster:
    """A running server and its migrated template database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def database_url(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    async def execute(self, statement: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            await connection.execute(statement.encode())

    async def create_database(self, *, empty: bool = False) -> str:
        """The URL of a fresh database, at the newest schema unless `empty`."""
        name = f"test_{uuid4().hex[:12]}"
        await self.execute(f"create database {name}" + ("" if empty else f" template {TEMPLATE}"))
        return self.database_url(name)


@asynccontextmanager
async def running_cluster() -> AsyncIterator[Cluster]:
    """A server in a directory of its own, gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="wattos-tests-"))
    try:
        # Thrown away anyway: nothing waits for the disk. (A kill of processes loses nothing even so.)
        async with embedded_postgres(directory, {"fsync": "off"}) as url:
            cluster = Cluster(url)
            await cluster.execute(f"create database {TEMPLATE}")
            await upgrade(cluster.database_url(TEMPLATE))
            yield cluster
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
