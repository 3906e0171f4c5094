"""Limits on the running server: set, in force on every route within a second, told in headers, and counted."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway import Gateway, running_gateway
from openapi_document import operations, the_document
from server import environment, running

pytestmark = pytest.mark.requirement("SEC-1")

IN_FORCE_S = 1.0
"""The promise; a machine that is busy gets as much again."""

ROUTES = {
    "chat": ("POST", "/v1/chat/completions", {"model": "chat", "messages": [{"role": "user", "content": "ping"}]}),
    "completions": ("POST", "/v1/completions", {"model": "chat", "prompt": "ping"}),
    "messages": (
        "POST",
        "/v1/messages",
        {"model": "chat", "messages": [{"role": "user", "content": "ping"}], "max_tokens": 9},
    ),
    "moderations": ("POST", "/v1/moderations", {"model": "guard", "input": "ping"}),
    "embeddings": ("POST", "/v1/embeddings", {"model": "vectors", "input": "ping"}),
    "models": ("GET", "/v1/models", None),
    "files": ("GET", "/v1/files", None),
    "vector stores": ("GET", "/v1/vector_stores", None),
    "sign-in": ("GET", "/api/v1/auth/me", None),
    "keys": ("GET", "/api/v1/keys", None),
    "users": ("GET", "/api/v1/users", None),
    "provider keys": ("GET", "/api/v1/provider-keys", None),
    "prices": ("GET", "/api/v1/prices", None),
    "budgets": ("GET", "/api/v1/budgets", None),
    "limits": ("GET", "/api/v1/limits", None),
    "usage": ("GET", "/api/v1/usage", None),
    "audit": ("GET", "/api/v1/audit-events", None),
}
"""A sample of every router that needs a credential."""

OTHERS = {
    "/api/v1/tenants",
    "/api/v1/tenants/{id}",
    "/api/v1/auth/logout",
    "/api/v1/auth/password",
    "/api/v1/models/reload",
    "/api/v1/providers",
    "/api/v1/providers/{provider_id}/reset",
    "/api/v1/providers/{provider_id}/breaker",
}
"""In routers that have a sample, or for the platform's administrator, who is not limited."""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of one's own: addresses are allowed so little that other tests would be refused."""
    env = {"PLUGINS_SECURITY_ADDRESS_REQUESTS_PER_MINUTE": "40", "LOCAL_MODELS_ENABLED": "false"}
    with running_gateway(tmp_path_factory.mktemp("limits"), env) as gateway:
        yield gateway
        gateway.close_clients()


def tenant_of(gateway: Gateway, key: str) -> str:
    with gateway.http(key) as api:
        return str(api.get("/api/v1/auth/me").json()["tenant_id"])


def key_id_of(gateway: Gateway, key: str) -> str:
    with gateway.http(key) as api:
        return str(api.get("/api/v1/auth/me").json()["key_id"])


def set_limit(gateway: Gateway, **limit: object) -> httpx.Response:
    with gateway.server.admin() as api:
        return api.put("/api/v1/limits", json=limit)


def refused(gateway: Gateway, key: str, method: str, path: str, body: object) -> httpx.Response:
    """The first 429: the limit is in force by then."""
    deadline = time.monotonic() + 2 * IN_FORCE_S
    with gateway.http(key) as api:
        while (answer := api.request(method, path, json=body)).status_code != 429:
            assert time.monotonic() < deadline, f"not limited: {answer.status_code} {answer.text}"
    return answer


@pytest.mark.parametrize("route", ROUTES)
def test_every_router_is_limited(limited: Gateway, route: str) -> None:
    """The second request of a key with one a minute is refused, in the route's own shape, with when to come back."""
    method, path, body = ROUTES[route]
    key = limited.server.make_key(f"limited-{route.replace(' ', '-')}")
    made = set_limit(limited, scope="key", scope_id=key_id_of(limited, key), requests_per_minute=1)
    assert made.status_code == 200, made.text
    answer = refused(limited, key, method, path, body)
    assert answer.headers["x-ratelimit-limit-requests"] == "1"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert re.fullmatch(r"1m\ds|\d+s", answer.headers["x-ratelimit-reset-requests"])
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert "x-should-retry" not in answer.headers
    error = answer.json()
    if path == "/v1/messages":
        assert error["error"]["type"] == "rate_limit_error"
    elif path.startswith("/v1/"):
        assert (error["error"]["code"], error["error"]["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    else:
        assert (error["code"], error["status"]) == ("rate_limit_exceeded", 429)


def test_every_router_has_a_sample() -> None:
    """One that is added later fails here."""
    found = {path for path, _, one in operations(the_document()) if one.get("security") != []}
    assert {path for path in found if not any(path.startswith(sample) for _, sample, _ in ROUTES.values())} <= OTHERS


@pytest.mark.parametrize("scope", ["tenant", "user", "key"])
def test_each_scope_is_limited(limited: Gateway, scope: str) -> None:
    """All keys of a tenant share its limit, all keys of a user the user's."""
    slug = f"scope-{scope}"
    first = limited.server.make_key(slug, scopes=[])
    tenant = tenant_of(limited, first)
    with limited.server.admin() as api:
        user = api.post("/api/v1/users", json={"tenant_id": tenant, "email": "a@b.example", "role": "admin"}).json()
        made = [
            api.post("/api/v1/keys", json={"tenant_id": tenant, "name": str(i), "user_id": user["id"]}).json()
            for i in range(2)
        ]
    keys = [one["key"] for one in made]
    scope_id = {"tenant": tenant, "user": user["id"], "key": made[0]["id"]}[scope]
    assert set_limit(limited, scope=scope, scope_id=scope_id, requests_per_minute=3).status_code == 200
    refused(limited, keys[0], "GET", "/v1/models", None)
    with limited.http(keys[1]) as api:
        assert api.get("/v1/models").status_code == (200 if scope == "key" else 429)
    with limited.http(first) as api:
        assert api.get("/v1/models").status_code == (429 if scope == "tenant" else 200)


def test_a_change_is_in_force_within_a_second(limited: Gateway) -> None:
    """Also that there is no limit any more."""
    key = limited.server.make_key("changing")
    key_id = key_id_of(limited, key)
    set_limit(limited, scope="key", scope_id=key_id, requests_per_minute=1)
    refused(limited, key, "GET", "/v1/models", None)
    assert set_limit(limited, scope="key", scope_id=key_id).json()["requests_per_minute"] is None
    deadline = time.monotonic() + 2 * IN_FORCE_S
    with limited.http(key) as api:
        while (answer := api.get("/v1/models")).status_code == 429:
            assert time.monotonic() < deadline
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_answers_say_how_limits_stand(limited: Gateway) -> None:
    """Of several limits the one with the least left; nothing to callers without."""
    key = limited.server.make_key("told")
    set_limit(limited, scope="tenant", scope_id=tenant_of(limited, key), requests_per_minute=1_000)
    set_limit(limited, scope="key", scope_id=key_id_of(limited, key), requests_per_minute=200, tokens_per_minute=5_000)
    deadline = time.monotonic() + 2 * IN_FORCE_S
    with limited.http(key) as api:
        while (answer := api.get("/v1/models")).headers.get("x-ratelimit-limit-requests") != "200":
            assert time.monotonic() < deadline
        before = int(answer.headers["x-ratelimit-remaining-requests"])
        after = api.get("/v1/models").headers
    assert int(after["x-ratelimit-remaining-requests"]) == before - 1
    assert after["x-ratelimit-limit-tokens"] == "5000"
    assert after["x-ratelimit-remaining-tokens"] == "5000"
    assert after["x-ratelimit-reset-tokens"] == "0s"
    with limited.http() as api:
        assert "x-ratelimit-limit-requests" not in api.get("/v1/models").headers


def test_limits_are_listed_page_by_page(limited: Gateway) -> None:
    """Newest first; only one's own."""
    key = limited.server.make_key("listing")
    tenant = tenant_of(limited, key)
    for _ in range(3):
        one = limited.server.make_key("listing")
        set_limit(limited, scope="key", scope_id=key_id_of(limited, one), max_concurrency=2)
    set_limit(limited, scope="tenant", scope_id=tenant, tokens_per_minute=10**12)
    with limited.server.admin() as api:
        first = api.get("/api/v1/limits", params={"tenant_id": tenant, "limit": 3}).json()
        rest = api.get("/api/v1/limits", params={"tenant_id": tenant, "after": first["last_id"]}).json()
        assert api.get("/api/v1/limits").status_code == 400
    assert first["has_more"]
    assert [one["scope"] for one in first["data"] + rest["data"]] == ["key", "key", "key", "tenant"]
    assert rest["data"][0]["tokens_per_minute"] == 10**12
    assert rest["data"][0]["tenant_id"] == tenant


def test_a_tenant_sets_limits_of_its_own_users_and_keys_alone(limited: Gateway) -> None:
    """Not its own, and nobody else's."""
    key, other = limited.server.make_key("setting"), limited.server.make_key("elsewhere")
    with limited.server.admin() as api:
        boss = (
            api.post(
                "/api/v1/users",
                json={
                    "tenant_id": tenant_of(limited, key),
                    "email": "boss@b.example",
                    "role": "admin",
                    "password": "vier Birnen auf dem Tisch",
                },
            )
            .raise_for_status()
            .json()
        )
    login = {"tenant": "setting", "email": "boss@b.example", "password": "vier Birnen auf dem Tisch"}
    token = httpx.post(f"{limited.server.url}/api/v1/auth/login", json=login).raise_for_status().json()["access_token"]
    asked = {
        200: {"scope": "user", "scope_id": boss["id"], "max_concurrency": 1_000_000_000},
        403: {"scope": "tenant", "scope_id": tenant_of(limited, key), "requests_per_minute": 10**9},
        404: {"scope": "key", "scope_id": key_id_of(limited, other), "requests_per_minute": 1},
        400: {"scope": "key", "scope_id": key_id_of(limited, key), "requests_per_minute": 0},
    }
    with limited.http(token) as api:
        answers = {status: api.put("/api/v1/limits", json=body).status_code for status, body in asked.items()}
        assert api.put("/api/v1/limits", json={**asked[200], "per_hour": 1}).status_code == 400
        assert api.put("/api/v1/limits", json={**asked[200], "scope_id": "user_" + "0" * 32}).status_code == 404
        events = api.get("/api/v1/audit-events").json()["data"]
    assert answers == {status: status for status in asked}
    told = [event for event in events if event["action"] == "limit.set"]
    assert len(told) == 1
    assert told[0]["after"] == {"requests_per_minute": None, "tokens_per_minute": None, "max_concurrency": 10**9}


def test_a_limit_goes_with_whom_it_is_for(limited: Gateway) -> None:
    """A deleted user's limit is no more."""
    tenant = tenant_of(limited, limited.server.make_key("going"))
    with limited.server.admin() as api:
        user = api.post("/api/v1/users", json={"tenant_id": tenant, "email": "g@b.example", "role": "viewer"}).json()
        set_limit(limited, scope="user", scope_id=user["id"], requests_per_minute=5)
        assert len(api.get("/api/v1/limits", params={"tenant_id": tenant}).json()["data"]) == 1
        assert api.delete(f"/api/v1/users/{user['id']}").is_success
        assert api.get("/api/v1/limits", params={"tenant_id": tenant}).json()["data"] == []


@pytest.mark.requirement("OBS-4")
def test_decisions_are_counted(limited: Gateway) -> None:
    """By kind, by whose limit it is, and by how it was decided."""
    key = limited.server.make_key("counted")
    set_limit(limited, scope="key", scope_id=key_id_of(limited, key), requests_per_minute=1)
    refused(limited, key, "GET", "/v1/models", None)
    deadline = time.monotonic() + 5
    while True:
        metrics = httpx.get(f"{limited.server.url}/health/metrics").text
        found = {
            decision: float(match[1])
            for decision in ("allowed", "refused")
            if (match := re.search(rf'decision="{decision}",kind="requests",scope="key"}} (\S+)', metrics))
        }
        if found.get("allowed", 0) >= 1 and found.get("refused", 0) >= 1:
            return
        assert time.monotonic() < deadline, found


def test_an_address_of_nobody_known_is_limited(limited: Gateway) -> None:
    """Wrong keys and sign-ins alike, but neither health nor those whose key is good."""
    statuses: list[int] = []
    with httpx.Client(base_url=limited.server.url, headers={"authorization": "Bearer sk-wattos-wrong"}) as nobody:
        for _ in range(60):
            statuses.append(nobody.get("/v1/models").status_code)
        assert (statuses[0], statuses[-1]) == (401, 429)
        assert nobody.get("/v1/models").json()["error"]["code"] == "rate_limit_exceeded"
        signing_in = nobody.post("/api/v1/auth/login", json={"tenant": "a", "email": "a@b.example", "password": "x"})
        assert signing_in.status_code == 429
        assert int(signing_in.headers["retry-after"]) >= 1
        for path in ("/health/liveness", "/health", "/health/metrics", "/plugins", "/schema/openapi.json"):
            assert nobody.get(path).status_code == 200, path
    with limited.http() as known, limited.server.admin() as admin:
        assert known.get("/v1/models").status_code == 200
        assert admin.get("/api/v1/tenants").status_code == 200


def test_nobody_is_limited_with_the_plugin_off(tmp_path: Path) -> None:
    """Security off is anonymous, and unlimited."""
    env = environment(
        tmp_path / "data",
        PLUGINS_SECURITY_ENABLED="false",
        LOCAL_MODELS_ENABLED="false",
        PLUGINS_SECURITY_ADDRESS_REQUESTS_PER_MINUTE="1",
    )
    with running(env, tmp_path / "server.log") as server, httpx.Client(base_url=server.url) as api:
        limit = {"scope": "tenant", "scope_id": "ten_00000000000070008000000000000000", "requests_per_minute": 1}
        assert api.put("/api/v1/limits", json=limit).status_code == 200
        assert {api.get("/v1/models").status_code for _ in range(5)} == {200}
