"""One gateway for all tests of the HTTP surface: a server's start takes seconds.

Modules that say `UNDER_BOTH_TRANSPORTS = True` run twice: vendors called directly, and every vendor through litellm.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cached_world import Cached, running_cached
from gateway import Gateway, running_gateway


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "transport" in metafunc.fixturenames and getattr(metafunc.module, "UNDER_BOTH_TRANSPORTS", False):
        metafunc.parametrize("transport", ["auto", "litellm"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def transport(request: pytest.FixtureRequest) -> str:
    """LLM_TRANSPORT of the gateway."""
    return str(getattr(request, "param", "auto"))


@pytest.fixture(scope="session")
def shared_gateway(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"LLM_TRANSPORT": transport}) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Iterator[Gateway]:
    """The session's gateway; its upstream has forgotten the test before."""
    shared_gateway.upstream.reset()
    yield shared_gateway
    shared_gateway.close_clients()


@pytest.fixture(scope="session")
def shared_cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    with running_cached(tmp_path_factory.mktemp("cached")) as gateway:
        yield gateway


@pytest.fixture
def cached(shared_cached: Cached) -> Cached:
    """A gateway whose aliases are about giving answers again."""
    shared_cached.upstream.reset()
    return shared_cached
