"""The limiter as the plugin mounts it: who takes part in limits, and what is said where replicas cannot share them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from litestar import get
from litestar.testing import TestClient

from plugins.contract.capabilities import Capabilities
from plugins.contract.permissions import needs
from plugins.security.config import SecuritySettings
from plugins.security.limits.entrance import Limits
from plugins.security.plugin import SecurityPlugin
from unit.plugins.harness import build, serving
from unit.plugins.security.limits_world import State
from valkey_server import ValkeyServer, running_valkey

pytestmark = pytest.mark.requirement("SEC-1")

ENV = {"ADMIN_KEY": "0123456789abcdef0123456789abcdef"}


@get("/models", opt=needs("models:use"))
async def models() -> None: ...


@get("/health", opt={"public": True, "operations": True})
async def health() -> None: ...


@get("/sign-in", opt={"public": True})
async def sign_in() -> None: ...


@pytest.fixture
def empty_valkey() -> Iterator[ValkeyServer]:
    with running_valkey() as server:
        yield server


@pytest.mark.parametrize(("handlers", "n_holders"), [([models, health], "1"), ([health], "0")])
async def test_a_process_without_limited_routes_takes_part_in_no_limit(
    empty_valkey: ValkeyServer, handlers: list[object], n_holders: str
) -> None:
    """A worker is no replica: no limit is divided by it."""
    state = State(empty_valkey.url)
    app = build([SecurityPlugin.from_env(ENV)], handlers, given=Capabilities(shared_state=state))
    async with serving(app) as api:
        assert (await api.get("/health")).status_code == 200
        assert empty_valkey.command("HLEN", "{wattos:limits}:holders") == f":{n_holders}\r\n"
    assert empty_valkey.command("HLEN", "{wattos:limits}:holders") == ":0\r\n"
    await state.close()


@pytest.mark.parametrize("is_expected", [False, True])
async def test_a_valkey_that_nobody_connects_to_is_warned_of(
    is_expected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """VALKEY_URL is set, and the cache plugin off: each replica has its part of every limit."""
    limits = Limits(SecuritySettings(replicas=3), is_sharing_expected=is_expected)
    with caplog.at_level(logging.WARNING, "security"):
        async with limits.serving():
            pass
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == is_expected
    assert all("VALKEY_URL" in one and "1/3" in one for one in said)


def test_strange_addresses_share_what_one_may_ask() -> None:
    """Wrong credentials and signing in alike; health is for everybody."""
    plugin = SecurityPlugin.from_env({**ENV, "PLUGINS_SECURITY_ADDRESS_REQUESTS_PER_MINUTE": "4"})
    with TestClient(build([plugin], [models, health, sign_in])) as api:
        asked = [api.get(path).status_code for path in ("/models", "/sign-in", "/models", "/sign-in")]
        assert asked == [401, 200, 401, 200]
        for path in ("/models", "/sign-in"):
            assert api.get(path).json()["code"] == "rate_limit_exceeded"
        assert api.get("/health").status_code == 200
        assert api.get("/models", headers={"authorization": f"Bearer {ENV['ADMIN_KEY']}"}).status_code == 200
    unlimited = SecurityPlugin.from_env({**ENV, "PLUGINS_SECURITY_ADDRESS_REQUESTS_PER_MINUTE": "0"})
    with TestClient(build([unlimited], [sign_in])) as api:
        assert {api.get("/sign-in").status_code for _ in range(20)} == {200}
