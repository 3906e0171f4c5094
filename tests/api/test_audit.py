"""The audit log: who changed what, when and from where; nothing can be taken out of it unnoticed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway, running_gateway

pytestmark = pytest.mark.requirement("SEC-2")

PASSWORD = "vier Birnen auf dem Tisch"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("audit"), {"LOCAL_MODELS_ENABLED": "false"}) as made:
        yield made


class Office:
    """A tenant and its administrator, signed in."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.slug = f"office-{uuid4().hex[:8]}"
        with gateway.server.admin() as api:
            self.id = api.post("/api/v1/tenants", json={"name": "x", "slug": self.slug}).json()["id"]
            boss = {"tenant_id": self.id, "email": "boss@office.example", "role": "admin", "password": PASSWORD}
            self.boss = api.post("/api/v1/users", json=boss).json()["id"]
        self.http = gateway.http(self.login()["access_token"])

    def login(self) -> dict[str, Any]:
        asked = {"tenant": self.slug, "email": "boss@office.example", "password": PASSWORD}
        return dict(httpx.post(f"{self.gateway.server.url}/api/v1/auth/login", json=asked).raise_for_status().json())

    def events(self, **query: object) -> list[dict[str, Any]]:
        answer = self.http.get("/api/v1/audit-events", params={"limit": 100, **query})
        return list(answer.raise_for_status().json()["data"])


@pytest.fixture
def office(gateway: Gateway) -> Iterator[Office]:
    made = Office(gateway)
    yield made
    made.http.close()


def test_every_change_is_told_with_who_and_from_where(office: Office) -> None:
    """In order, newest first, with the request's id; of what changed, before and after."""
    http = office.http
    user = http.post("/api/v1/users", json={"email": "a@office.example", "name": "Anna"}).json()["id"]
    http.patch(f"/api/v1/users/{user}", json={"role": "editor", "name": "Anna B."}, headers={"x-request-id": "r-17"})
    http.patch(f"/api/v1/users/{user}", json={"role": "editor"})  # changes nothing, so it is none
    key = http.post("/api/v1/keys", json={"name": "lab", "user_id": user, "scopes": ["models:use"]}).json()["id"]
    http.delete(f"/api/v1/keys/{key}")
    http.delete(f"/api/v1/keys/{key}")
    http.delete(f"/api/v1/users/{user}")
    events = office.events()
    assert [event["action"] for event in events] == [
        *("user.deleted", "key.revoked", "key.created", "user.updated", "user.created"),
        *("sign_in.succeeded", "user.created", "tenant.created"),
    ]
    assert [event["sequence"] for event in events] == [*range(8, 0, -1)]
    deleted, _, created, updated, *_, tenant = events
    assert updated["actor"] == {"kind": "user", "id": office.boss}
    assert updated["subject"] == {"kind": "user", "id": user}
    assert (updated["address"], updated["request_id"]) == ("127.0.0.1", "r-17")
    assert updated["before"] == {"role": "viewer", "name": "Anna"}
    assert updated["after"] == {"role": "editor", "name": "Anna B."}
    assert created["after"]["scopes"] == ["models:use"]
    assert created["after"]["user_id"] == user.removeprefix("user_")
    assert deleted["before"]["email"] == "a@office.example"
    assert tenant["actor"] == {"kind": "platform", "id": None}


def test_pages_and_kinds(office: Office) -> None:
    """As all lists; other tenants' events are not among them."""
    for n in range(5):
        office.http.post("/api/v1/keys", json={"name": f"k{n}"})
    first = office.http.get("/api/v1/audit-events", params={"limit": 3}).json()
    second = office.http.get("/api/v1/audit-events", params={"limit": 3, "after": first["last_id"]}).json()
    assert [e["sequence"] for e in (*first["data"], *second["data"])] == [8, 7, 6, 5, 4, 3]
    assert (first["has_more"], second["has_more"]) == (True, True)
    assert len(office.events(action="key.created")) == 5
    other = Office(office.gateway)
    assert {event["sequence"] for event in other.events()} == {1, 2, 3}
    other.http.close()


def test_the_platforms_own_events(office: Office) -> None:
    """What concerns no tenant: a sign-in at one that is not there. For its administrator alone."""
    wrong = {"tenant": "nowhere", "email": "x@y.example", "password": "x"}
    httpx.post(f"{office.gateway.server.url}/api/v1/auth/login", json=wrong)
    with office.gateway.server.admin() as api:
        (event, *_) = api.get("/api/v1/audit-events").json()["data"]
        assert (event["action"], event["actor"]["kind"]) == ("sign_in.failed", "anonymous")
        assert len(api.get("/api/v1/audit-events", params={"tenant_id": office.id}).json()["data"]) == 3


def test_no_secret_is_in_it(office: Office) -> None:
    """Keys, passwords and vendors' keys are said to be set, and no more."""
    key = office.http.post("/api/v1/keys", json={"name": "lab"}).json()["key"]
    office.http.post("/api/v1/provider-keys", json={"provider": "openai", "key": "sk-a-vendors-secret-12345"})
    office.http.patch(f"/api/v1/users/{office.boss}", json={"password": "drei Äpfel unter dem Bett"})
    office.http.headers["authorization"] = f"Bearer {key}"
    with office.gateway.server.admin() as api:
        told = api.get("/api/v1/audit-events", params={"tenant_id": office.id, "limit": 100})
    assert '"password":"set"' in told.text
    for secret in (key, "sk-a-vendors-secret-12345", "drei Äpfel unter dem Bett", PASSWORD, "argon2"):
        assert secret not in told.text


def test_changes_of_documents_are_told(office: Office) -> None:
    """Uploads, deletions, and what is in which store; not what they say."""
    http = office.http
    form = {"files": {"file": ("Kündigung.txt", b"secret content")}, "data": {"purpose": "assistants"}}
    file = http.post("/v1/files", **form).json()["id"]  # type: ignore[arg-type]
    store = http.post("/v1/vector_stores", json={"name": "first"}).json()["id"]
    http.post(f"/v1/vector_stores/{store}", json={"name": "second"})
    http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
    http.delete(f"/v1/vector_stores/{store}/files/{file}")
    http.delete(f"/v1/vector_stores/{store}")
    http.delete(f"/v1/files/{file}")
    told = [(event["action"], event["subject"]["id"]) for event in reversed(office.events())][3:]
    assert told == [
        ("file.created", file),
        ("vector_store.created", store),
        ("vector_store.updated", store),
        ("vector_store.file_added", store),
        ("vector_store.file_removed", store),
        ("vector_store.deleted", store),
        ("file.deleted", file),
    ]
    (updated,) = office.events(action="vector_store.updated")
    assert (updated["before"]["label"], updated["after"]["label"]) == ("first", "second")
    assert "secret content" not in str(office.events())
