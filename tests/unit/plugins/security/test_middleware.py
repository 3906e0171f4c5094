"""Default deny, on a real app: a route is open only where it says so."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from litestar import Request, get, post
from litestar.testing import TestClient

from plugins.contract.capabilities import Capabilities
from plugins.contract.credentials import CREDENTIAL_NEEDED, generate_key, key_handle
from plugins.contract.errors import RetryableError
from plugins.contract.permissions import needs
from plugins.contract.principal import Identity, KeyId, Principal, TenantId
from plugins.security.plugin import SecurityPlugin
from unit.plugins.harness import FakeIdentityLookup, build

ENV = {"ADMIN_KEY": "0123456789abcdef0123456789abcdef"}
KEY = generate_key()
CALLER = Principal(tenant_id=TenantId(uuid.uuid4()), key_id=KeyId(uuid.uuid4()), permissions=frozenset({"models:use"}))

pytestmark = pytest.mark.requirement("SEC-2")


@get("/who", opt=needs("models:use"))
async def who(request: Request[Any, Any, Any]) -> dict[str, str]:
    principal: Principal = request.scope["state"]["principal"]
    return {"key": str(principal.key_id), "admin": str(principal.is_platform_admin)}


@post("/write", opt=needs("documents:write"))
async def write() -> None: ...


@get("/open", opt={"public": True})
async def open_to_all(request: Request[Any, Any, Any]) -> dict[str, bool]:
    return {"known": "principal" in request.scope["state"]}


@get("/nearly-open", opt={"public": "false"})
async def nearly_open() -> None: ...


@get("/unsaid")
async def unsaid() -> None: ...


HANDLERS = [who, write, open_to_all, nearly_open, unsaid]


def client(lookup: FakeIdentityLookup) -> TestClient[Any]:
    plugin = SecurityPlugin.from_env(ENV)
    return TestClient(build([plugin], HANDLERS, given=Capabilities(identity_lookup=lookup)))


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/who"), ("POST", "/write"), ("GET", "/nearly-open"), ("OPTIONS", "/who")]
)
def test_a_route_without_a_credential_is_refused(method: str, path: str) -> None:
    """The error reaches the app's exception handlers, which render it."""
    with client(FakeIdentityLookup()) as api:
        answer = api.request(method, path)
    assert answer.status_code == 401
    assert answer.json()["code"] == "invalid_api_key"


def test_a_key_in_the_query_is_not_a_credential() -> None:
    """Urls are logged and shared."""
    with client(FakeIdentityLookup({key_handle(KEY.sha256): Identity(principal=CALLER)})) as api:
        assert api.get("/who", params={"api_key": KEY.key, "access_token": KEY.key}).status_code == 401


def test_a_valid_credential_is_the_requests_principal() -> None:
    """A key's, or the platform administrator's."""
    with client(FakeIdentityLookup({key_handle(KEY.sha256): Identity(principal=CALLER)})) as api:
        assert api.get("/who", headers={"authorization": f"Bearer {KEY.key}"}).json() == {
            "key": str(CALLER.key_id),
            "admin": "False",
        }
        assert api.get("/who", headers={"authorization": f"Bearer {ENV['ADMIN_KEY']}"}).json()["admin"] == "True"


def test_a_public_route_knows_the_administrator_and_looks_up_nobody() -> None:
    """Health answers the administrator more, and no one slower: a key's look-up would wait for the database."""
    lookup = FakeIdentityLookup({key_handle(KEY.sha256): Identity(principal=CALLER)})
    with client(lookup) as api:
        assert api.get("/open", headers={"authorization": f"Bearer {KEY.key}"}).json() == {"known": False}
        assert api.get("/open", headers={"authorization": f"Bearer {ENV['ADMIN_KEY']}"}).json() == {"known": True}
    assert lookup.asked == []


def test_a_public_route_is_open_whatever_is_sent() -> None:
    """A probe has no key, and a wrong one does not matter."""
    lookup = FakeIdentityLookup()
    lookup.failing = RetryableError("away")
    with client(lookup) as api:
        assert api.get("/open").json() == {"known": False}
        assert api.get("/open", headers={"authorization": "Bearer nonsense"}).status_code == 200


def test_requests_are_refused_as_retryable_while_the_database_is_away() -> None:
    """Authentication is closed: 503, not 401, so that clients come back."""
    lookup = FakeIdentityLookup()
    lookup.failing = RetryableError("away")
    with client(lookup) as api:
        assert api.get("/who", headers={"authorization": f"Bearer {KEY.key}"}).status_code == 503


def test_nobody_is_anonymous_once_the_plugin_is_on() -> None:
    """Forgetting the middleware could open no route: there is no stand-in for a missing principal."""
    capabilities = SecurityPlugin.from_env(ENV).contribute(Capabilities())
    assert capabilities.anonymous is None
    assert CREDENTIAL_NEEDED.startswith("a valid API key is needed")


def test_a_route_asks_for_its_permission() -> None:
    """One that says none is the platform administrator's: forgetting it opens nothing."""
    lookup = FakeIdentityLookup({key_handle(KEY.sha256): Identity(principal=CALLER)})
    with client(lookup) as api:
        mine, admin = ({"authorization": f"Bearer {key}"} for key in (KEY.key, ENV["ADMIN_KEY"]))
        assert api.get("/who", headers=mine).status_code == 200
        for method, path in (("POST", "/write"), ("GET", "/unsaid"), ("GET", "/nearly-open")):
            refused = api.request(method, path, headers=mine)
            assert refused.json()["code"] == "permission_denied"
            assert api.request(method, path, headers=admin).is_success
