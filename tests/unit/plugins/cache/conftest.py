"""A Valkey of each file's own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from cache_replicas import TENANT
from plugins.cache.keys import create_key
from valkey_server import ValkeyServer, running_valkey


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """This file's own: it is emptied, made a replica, and told that it is full."""
    with running_valkey() as running:
        yield running


@pytest.fixture
def key() -> str:
    return create_key(TENANT, uuid.uuid4().hex, [])
