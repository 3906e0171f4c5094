"""`/api/v1/tenants` and `/api/v1/keys`: who may, what is shown, and when a key is dead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway

UNKNOWN_CREDENTIALS = ["Bearer sk-wattos-" + "x" * 43, "Bearer sk-other", "Bearer", "Basic YTpi", "sk-wattos-x"]


@pytest.fixture
def admin(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.server.admin() as client:
        yield client


@pytest.fixture
def tenant_id(admin: httpx.Client) -> str:
    made = admin.post("/api/v1/tenants", json={"name": "A school", "slug": f"school-{uuid4().hex[:8]}"})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def test_a_tenant_is_made_found_and_listed(admin: httpx.Client, tenant_id: str) -> None:
    """201 with its id; the same again by id and in the list; ids have their prefix."""
    assert tenant_id.startswith("ten_")
    found = admin.get(f"/api/v1/tenants/{tenant_id}").json()
    assert found["name"] == "A school"
    listed = admin.get("/api/v1/tenants", params={"limit": 1}).json()
    assert [t["id"] for t in listed["data"]] == [tenant_id]
    assert listed["has_more"]
    following = admin.get("/api/v1/tenants", params={"limit": 100, "after": listed["last_id"]}).json()
    assert tenant_id not in [t["id"] for t in following["data"]]
    assert "default" in [t["slug"] for t in following["data"]]


def test_a_key_is_shown_once_and_opens_its_tenant(gateway: Gateway, admin: httpx.Client, tenant_id: str) -> None:
    """The key stands in the answer to its making and nowhere else."""
    made = admin.post("/api/v1/keys", json={"tenant_id": tenant_id, "name": "lab"})
    assert made.status_code == 201
    key = made.json()["key"]
    assert key.startswith("sk-wattos-")
    with gateway.http(key) as client:
        assert client.get("/v1/models").status_code == 200
    listed = admin.get("/api/v1/keys", params={"tenant_id": tenant_id})
    assert key not in listed.text
    (row,) = listed.json()["data"]
    assert key.startswith(row["prefix"])
    assert (row["id"], row["state"], row["name"]) == (made.json()["id"], "active", "lab")


def test_a_key_is_listed_with_all_that_was_asked_for(admin: httpx.Client, tenant_id: str) -> None:
    """In the answer to its making and in the list, which has everything but the key."""
    user = admin.post("/api/v1/users", json={"tenant_id": tenant_id, "email": "a@b.example"}).json()["id"]
    asked = {"name": "x", "user_id": user, "scopes": ["models:use"], "models": ["chat", "free"]}
    made = admin.post("/api/v1/keys", json={"tenant_id": tenant_id, **asked}).json()
    assert made | asked == made
    (listed,) = admin.get("/api/v1/keys", params={"tenant_id": tenant_id}).json()["data"]
    assert listed | {"key": made["key"]} == made


def test_a_revoked_key_is_dead_within_a_second(gateway: Gateway, admin: httpx.Client, tenant_id: str) -> None:
    """Also when it has just been used."""
    made = admin.post("/api/v1/keys", json={"tenant_id": tenant_id, "name": "lost"}).json()
    with gateway.http(made["key"]) as client:
        assert client.get("/v1/models").status_code == 200
        assert admin.delete(f"/api/v1/keys/{made['id']}").status_code == 204
        deadline = time.monotonic() + 1.2
        while (status := client.get("/v1/models").status_code) == 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert status == 401
    assert admin.delete(f"/api/v1/keys/{made['id']}").status_code == 204, "revoking twice changes nothing"


def test_an_expired_key_is_refused(gateway: Gateway, admin: httpx.Client, tenant_id: str) -> None:
    """At its moment, without anybody doing anything; an expiry in the past cannot be asked for."""
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    key = admin.post(
        "/api/v1/keys", json={"tenant_id": tenant_id, "name": "brief", "expires_at": soon.isoformat()}
    ).json()["key"]
    with gateway.http(key) as client:
        assert client.get("/v1/models").status_code == 200
        deadline = time.monotonic() + 5
        while (status := client.get("/v1/models").status_code) == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert status == 401
    (listed,) = admin.get("/api/v1/keys", params={"tenant_id": tenant_id}).json()["data"]
    assert listed["state"] == "expired"
    past = {"tenant_id": tenant_id, "name": "late", "expires_at": "2020-01-01T00:00:00Z"}
    refused = admin.post("/api/v1/keys", json=past)
    assert (refused.status_code, refused.json()["param"]) == (400, "expires_at")


def test_every_bad_credential_gets_the_same_answer(gateway: Gateway) -> None:
    """Nothing can be guessed from it: no key, unknown, malformed."""
    answers = {httpx.get(f"{gateway.server.url}/v1/models").text}
    for credential in UNKNOWN_CREDENTIALS:
        refused = httpx.get(f"{gateway.server.url}/v1/models", headers={"authorization": credential})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        answers.add(refused.text)
    assert len(answers) == 1
    assert '"code":"invalid_api_key"' in answers.pop()


def test_a_tenants_key_may_not_administer(gateway: Gateway) -> None:
    """Tenants and keys are the platform administrator's; his own key has no data."""
    with gateway.http() as client, gateway.server.admin() as admin:
        for path in ("/api/v1/tenants", "/api/v1/keys?tenant_id=ten_x"):
            assert client.get(path).status_code == 403
        assert client.post("/api/v1/tenants", json={"name": "x", "slug": "x"}).status_code == 403
        assert client.post("/api/v1/keys", json={"tenant_id": "x", "name": "x"}).status_code == 403
        refused = admin.get("/v1/files")
        assert refused.status_code == 403
        assert "POST /api/v1/keys" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"name": "x", "slug": "Not A Slug"}, 400, "slug"),
        ({"name": "x", "slug": "-x"}, 400, "slug"),
        ({"name": "", "slug": "x"}, 400, "name"),
        ({"name": "x", "slug": "x" * 64}, 400, "slug"),
        ({"name": "x"}, 400, "slug"),
        ({"name": "x", "slug": "y", "admin": True}, 400, "admin"),
        ({"name": "x\0", "slug": "y"}, 400, None),
        ({"name": "x", "slug": "default"}, 409, None),
        ([], 400, None),
    ],
)
def test_a_bad_tenant_is_refused_by_field(admin: httpx.Client, body: object, status: int, param: str | None) -> None:
    """RFC 9457, with our stable code and the field's name."""
    refused = admin.post("/api/v1/tenants", json=body)
    assert refused.status_code == status, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["status"] == status
    assert refused.json().get("param") == param


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("scopes", [""]),
        ("models", ["x" * 300]),
        ("expires_at", "2030-01-01T00:00:00"),
        ("expires_at", 4102444800),
        ("role", "admin"),
    ],
)
def test_a_bad_key_is_refused_by_field(admin: httpx.Client, tenant_id: str, field: str, value: object) -> None:
    """An expiry without a time zone, an unknown field, an empty name: 400 that names it."""
    refused = admin.post("/api/v1/keys", json={"tenant_id": tenant_id, "name": "x", field: value})
    assert refused.status_code == 400, refused.text
    assert refused.json()["param"].startswith(field)


def test_a_key_for_nobody_is_not_found(admin: httpx.Client) -> None:
    """An unknown tenant and a malformed id get the same answer."""
    answers = set()
    for tenant_id in ("ten_" + "0" * 32, "ten_x", "default"):
        refused = admin.post("/api/v1/keys", json={"tenant_id": tenant_id, "name": "x"})
        assert refused.status_code == 404
        answers.add(refused.json()["detail"])
    assert len(answers) == 1
