"""What a credential opens, and that a dead one looks like one that never was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway

NOBODY = "0" * 32
DEAD_WITHIN_S = 1.0
"""The promise of the API: a revoked key is dead everywhere within a second."""


@pytest.fixture
def admin(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.server.admin() as client:
        yield client


@pytest.fixture
def tenant_id(admin: httpx.Client) -> str:
    made = admin.post("/api/v1/tenants", json={"name": "x", "slug": f"c-{uuid4().hex[:8]}"}).raise_for_status()
    return str(made.json()["id"])


def problem(answer: httpx.Response, status: int) -> dict[str, object]:
    """Its body, without what differs from call to call."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert body.keys() >= {"type", "title", "status", "detail", "code"}
    assert body.pop("instance") == answer.headers["x-request-id"]
    return body


@pytest.mark.requirement("SEC-2")
def test_dead_keys_look_like_keys_that_never_were(gateway: Gateway, admin: httpx.Client, tenant_id: str) -> None:
    """Revoked, expired, unknown, none: 401, the same byte by byte under /v1; under /api/v1 but for the request id."""
    revoked = admin.post("/api/v1/keys", json={"tenant_id": tenant_id, "name": "x"}).json()
    soon = (datetime.now(UTC) + timedelta(seconds=0.7)).isoformat()
    expired = admin.post("/api/v1/keys", json={"tenant_id": tenant_id, "name": "x", "expires_at": soon}).json()
    assert admin.delete(f"/api/v1/keys/{revoked['id']}").status_code == 204
    credentials = [f"Bearer {key}" for key in (revoked["key"], expired["key"], "sk-wattos-" + "x" * 43)]

    def ask(path: str, credential: str) -> httpx.Response:
        headers = {"authorization": credential} if credential else {}
        return httpx.get(gateway.server.url + path, headers=headers)

    deadline = time.monotonic() + 5
    while ask("/v1/files", credentials[1]).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    expected, expected_problem = ask("/v1/files", ""), problem(ask("/api/v1/tenants", ""), 401)
    assert (expected.status_code, expected.json()["error"]["type"]) == (401, "authentication_error")
    for credential in credentials:
        refused = ask("/v1/files", credential)
        assert (refused.status_code, refused.content) == (401, expected.content)
        assert refused.headers["www-authenticate"] == expected.headers["www-authenticate"] == "Bearer"
        assert problem(ask("/api/v1/tenants", credential), 401) == expected_problem


@pytest.mark.requirement("SEC-2")
def test_revocation_kills_a_key_in_use_in_time(gateway: Gateway, admin: httpx.Client, tenant_id: str) -> None:
    """While it is called all the time, from a warm cache; other keys of the tenant live on."""
    lost, kept = (admin.post("/api/v1/keys", json={"tenant_id": tenant_id, "name": "x"}).json() for _ in range(2))
    with gateway.http(lost["key"]) as client, gateway.http(kept["key"]) as other:
        assert client.get("/v1/models").status_code == other.get("/v1/models").status_code == 200
        assert admin.delete(f"/api/v1/keys/{lost['id']}").status_code == 204
        revoked_at = time.monotonic()
        while True:
            asked_at = time.monotonic()
            if client.get("/v1/models").status_code == 401:
                break
            assert asked_at - revoked_at <= DEAD_WITHIN_S
            time.sleep(0.02)
        assert other.get("/v1/models").status_code == 200
    (state,) = (
        row["state"]
        for row in admin.get("/api/v1/keys", params={"tenant_id": tenant_id}).json()["data"]
        if row["id"] == lost["id"]
    )
    assert state == "revoked"


def test_allowed_models_bound_every_route(gateway: Gateway) -> None:
    """What a key may not use is neither listed, found, chatted with nor embedded by."""
    key = gateway.server.make_key("bounded", models=["free"])
    with gateway.http(key) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["free"]
        assert client.get("/v1/models/free").status_code == 200
        absent = client.get("/v1/models/absent").text.replace("absent", "…")
        hidden = client.get("/v1/models/chat")
        assert (hidden.status_code, hidden.text.replace("chat", "…")) == (404, absent)
        chat = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
        for path, body in (("chat/completions", chat), ("embeddings", {"model": "vectors", "input": "x"})):
            refused = client.post(f"/v1/{path}", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert not gateway.upstream.requests


def test_unknown_and_malformed_ids_get_one_answer(admin: httpx.Client, tenant_id: str) -> None:
    """404 and the same problem, for tenants and for keys, whatever is asked of them."""
    for method, path, absent in (
        ("GET", "/api/v1/tenants/{}", "ten_" + NOBODY),
        ("GET", "/api/v1/keys?tenant_id={}", "ten_" + NOBODY),
        ("DELETE", "/api/v1/keys/{}", "key_" + NOBODY),
    ):
        expected = problem(admin.request(method, path.format(absent)), 404)
        for malformed in ("x", "ten_x", "%00", "%ff", "key_" + "g" * 32, tenant_id.replace("ten_", "file_")):
            assert problem(admin.request(method, path.format(malformed)), 404) == expected


def test_keys_are_listed_in_pages_of_their_tenant_alone(admin: httpx.Client, tenant_id: str) -> None:
    """Each once, newest first, by cursor; a list without a tenant is refused."""
    made = [admin.post("/api/v1/keys", json={"tenant_id": tenant_id, "name": str(n)}).json()["id"] for n in range(3)]
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = admin.get("/api/v1/keys", params={"tenant_id": tenant_id, "limit": 2, **after}).json()
        seen += [row["id"] for row in page["data"]]
        after = {"after": page["last_id"]}
        if not page["has_more"]:
            break
    assert seen == made[::-1]
    assert "tenant_id" in str(problem(admin.get("/api/v1/keys"), 400)["detail"])
    assert problem(admin.get("/api/v1/keys", params={"tenant_id": tenant_id, "limit": 0}), 400)["param"] == "limit"


def test_no_key_of_a_tenant_administers(gateway: Gateway, admin: httpx.Client, tenant_id: str) -> None:
    """403 before anything is looked at: neither bodies nor ids make a difference. No scope gives such a right."""
    for scope in ("admin", "*", "platform:manage"):
        refused = admin.post("/api/v1/keys", json={"tenant_id": tenant_id, "name": "x", "scopes": [scope]})
        assert refused.status_code == 400
    made = admin.post("/api/v1/keys", json={"tenant_id": tenant_id, "name": "x", "scopes": ["models:use"]}).json()
    with gateway.http(made["key"]) as client:
        for method, path, body in (
            ("GET", "/api/v1/tenants", None),
            ("POST", "/api/v1/tenants", b'{"name": "x", "slug": "x"}'),
            ("POST", "/api/v1/tenants", b"{"),
            ("GET", f"/api/v1/keys?tenant_id={tenant_id}", None),
            ("POST", "/api/v1/keys", b"{}"),
            ("DELETE", f"/api/v1/keys/{made['id']}", None),
            ("DELETE", "/api/v1/keys/x", None),
        ):
            assert problem(client.request(method, path, content=body), 403)["code"] == "permission_denied"
        assert client.get("/v1/models").status_code == 200, "it did not revoke itself"


@pytest.mark.parametrize("path", ["/v1/files", "/v1/vector_stores", "/v1/files/file_x", "/v1/vector_stores/vs_x/files"])
def test_administrators_key_has_no_data(admin: httpx.Client, path: str) -> None:
    """403 that says how to come by a key that has."""
    refused = admin.get(path)
    error = refused.json()["error"]
    assert (refused.status_code, error["type"], error["code"]) == (403, "permission_error", "permission_denied")
    assert "POST /api/v1/keys" in error["message"]
