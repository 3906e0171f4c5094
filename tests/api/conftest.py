"""One gateway for all tests of the HTTP surface: a server's start takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway import Gateway, running_gateway


@pytest.fixture(scope="session")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Gateway:
    """The session's gateway; its upstream has forgotten the test before."""
    shared_gateway.upstream.reset()
    return shared_gateway
