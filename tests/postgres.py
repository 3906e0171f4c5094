"""Real PostgreSQL for tests: one embedded server a session, one migrated database a test, cloned from a template."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
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

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All of it stops in its tracks, and goes on afterwards."""
        with psycopg.connect(self.url) as connection:
            (directory,) = connection.execute("show data_directory").fetchone() or ("",)
        postmaster = int((Path(directory) / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        pids = [postmaster, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


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
