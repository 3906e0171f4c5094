"""Fixtures for every suite: real servers, started once a session."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from app.database.engine import Database
from plugins.contract.loggers import LineHandler
from postgres import Cluster, running_cluster
from valkey_server import ValkeyServer, running_valkey


@pytest.fixture(autouse=True)
def logging_as_found() -> Iterator[None]:
    """An app takes over the process's log output and keeps it: the next test must not inherit that."""
    root = logging.getLogger()
    level = root.level
    yield
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, LineHandler)]
    root.setLevel(level)


@pytest.fixture(scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    """One embedded PostgreSQL for the whole session."""
    async with running_cluster() as running:
        yield running


@pytest.fixture
async def database_url(cluster: Cluster) -> str:
    """A migrated database of the test's own."""
    return await cluster.create_database()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """That database, opened as the app opens it."""
    opened = Database(pool_size=3)
    await opened.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def empty_database_url(cluster: Cluster) -> str:
    """A database of the test's own, without any schema."""
    return await cluster.create_database(empty=True)


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """One Valkey for the whole session. Who kills or freezes it takes one of their own: `running_valkey`."""
    with running_valkey() as running:
        yield running
