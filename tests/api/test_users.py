"""`/api/v1/users`: administering one's own tenant, and no way up or out of it."""

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
    with running_gateway(tmp_path_factory.mktemp("users"), {"LOCAL_MODELS_ENABLED": "false"}) as made:
        yield made


class Company:
    """A tenant with one person of each role, signed in."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.slug = f"company-{uuid4().hex[:8]}"
        self.ids: dict[str, str] = {}
        self.http: dict[str, httpx.Client] = {}
        with gateway.server.admin() as api:
            self.id = api.post("/api/v1/tenants", json={"name": "x", "slug": self.slug}).json()["id"]
            for role in ("admin", "editor", "viewer"):
                person = {"tenant_id": self.id, "email": f"{role}@c.example", "role": role, "password": PASSWORD}
                self.ids[role] = api.post("/api/v1/users", json=person).raise_for_status().json()["id"]
                self.http[role] = gateway.http(self.login(role))

    def login(self, role: str) -> str:
        asked = {"tenant": self.slug, "email": f"{role}@c.example", "password": PASSWORD}
        answer = httpx.post(f"{self.gateway.server.url}/api/v1/auth/login", json=asked).raise_for_status()
        return str(answer.json()["access_token"])

    def key(self, *scopes: str) -> httpx.Client:
        made = self.http["admin"].post("/api/v1/keys", json={"name": "x", "scopes": scopes}).raise_for_status()
        return self.gateway.http(made.json()["key"])

    def close(self) -> None:
        for client in self.http.values():
            client.close()


@pytest.fixture
def company(gateway: Gateway) -> Iterator[Company]:
    made = Company(gateway)
    yield made
    made.close()


def test_an_administrator_manages_the_tenants_people(company: Company) -> None:
    """Made, found, listed, changed and deleted, without naming the tenant."""
    http = company.http["admin"]
    made = http.post("/api/v1/users", json={"email": "New@C.example", "name": " New ", "external_id": "sub-1"})
    assert made.status_code == 201, made.text
    user = made.json()
    assert (user["email"], user["name"], user["role"], user["tenant_id"]) == (
        *("new@c.example", "New", "viewer"),
        company.id,
    )
    assert http.get(f"/api/v1/users/{user['id']}").json() == user
    listed = http.get("/api/v1/users").json()["data"]
    assert [one["id"] for one in listed] == [user["id"], *(company.ids[r] for r in ("viewer", "editor", "admin"))]
    changed = http.patch(f"/api/v1/users/{user['id']}", json={"external_id": None, "name": "Newer"}).json()
    assert (changed["external_id"], changed["name"], changed["email"]) == (None, "Newer", "new@c.example")
    assert http.delete(f"/api/v1/users/{user['id']}").status_code == 204
    assert http.get(f"/api/v1/users/{user['id']}").status_code == 404


def test_names_are_taken_within_a_tenant_alone(company: Company) -> None:
    """In any spelling; another tenant may have the same person, and tells nobody that it has."""
    http, other = company.http["admin"], Company(company.gateway)
    http.post("/api/v1/users", json={"email": "a@c.example", "external_id": "sub-1"})
    for body in ({"email": "A@c.example"}, {"email": "b@c.example", "external_id": "sub-1"}):
        taken = http.post("/api/v1/users", json=body)
        assert (taken.status_code, taken.json()["code"]) == (409, "conflict")
        assert other.http["admin"].post("/api/v1/users", json=body).status_code == 201
    other.close()


@pytest.mark.parametrize("role", ["editor", "viewer"])
def test_nobody_makes_themselves_more(company: Company, role: str) -> None:
    """By changing oneself, making a user or a key, or taking another's password."""
    http, own, boss = company.http[role], company.ids[role], company.ids["admin"]
    for method, path, body in (
        ("PATCH", f"/api/v1/users/{own}", {"role": "admin"}),
        ("PATCH", f"/api/v1/users/{boss}", {"password": "drei Äpfel unter dem Bett"}),
        ("PATCH", f"/api/v1/users/{boss}", {"role": "viewer"}),
        ("POST", "/api/v1/users", {"email": "x@c.example", "role": "admin"}),
        ("POST", "/api/v1/keys", {"name": "x", "scopes": ["users:manage"]}),
        ("POST", "/api/v1/provider-keys", {"provider": "openai", "key": "k"}),
        ("DELETE", f"/api/v1/users/{boss}", None),
        ("GET", "/api/v1/audit-events", None),
    ):
        refused = http.request(method, path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied"), (method, path)
    assert http.get("/api/v1/auth/me").json()["user"]["role"] == role


def test_a_key_for_one_thing_is_no_ladder(company: Company) -> None:
    """One that may manage users makes nobody who may more than itself, and takes over nobody who does."""
    with company.key("users:manage") as key:
        for method, path, body in (
            ("POST", "/api/v1/users", {"email": "x@c.example", "role": "admin"}),
            ("POST", "/api/v1/users", {"email": "x@c.example"}),
            ("PATCH", f"/api/v1/users/{company.ids['admin']}", {"password": "drei Äpfel unter dem Bett"}),
            ("PATCH", f"/api/v1/users/{company.ids['viewer']}", {"role": "admin"}),
            ("DELETE", f"/api/v1/users/{company.ids['admin']}", None),
        ):
            assert key.request(method, path, json=body).status_code == 403, (method, path)
        assert key.get("/v1/models").status_code == 403
    with company.key("keys:manage") as key:
        assert key.post("/api/v1/keys", json={"name": "x"}).status_code == 403
        assert key.post("/api/v1/keys", json={"name": "x", "scopes": ["models:use"]}).status_code == 403
        assert key.post("/api/v1/keys", json={"name": "x", "scopes": ["keys:manage"]}).status_code == 201


MASS: list[dict[str, Any]] = [
    {"tenant_id": "ten_" + "0" * 32},
    {"tenant": "other"},
    {"id": "user_" + "0" * 32},
    {"is_platform_admin": True},
    {"permissions": ["platform:manage"]},
    {"password_hash": "x"},
    {"created_at": "2020-01-01T00:00:00Z"},
    {"disabled_at": None},
]


@pytest.mark.parametrize("more", MASS, ids=[next(iter(one)) for one in MASS])
def test_fields_that_are_nobodys_to_set_are_refused(company: Company, more: dict[str, Any]) -> None:
    """Mass assignment: a field that is not offered is an error that names it, not ignored and not stored."""
    name = next(iter(more))
    changed = company.http["admin"].patch(f"/api/v1/users/{company.ids['viewer']}", json={"name": "x", **more})
    assert (changed.status_code, changed.json()["param"]) == (400, name)
    made = company.http["admin"].post("/api/v1/users", json={"email": "x@c.example", **more})
    assert made.status_code == (404 if name == "tenant_id" else 400)
    assert company.http["admin"].get(f"/api/v1/users/{company.ids['viewer']}").json()["name"] == ""


def test_forged_tenants_change_nothing(company: Company) -> None:
    """In headers, in the query, in the host's name: the tenant is the credential's."""
    other = Company(company.gateway)
    forged = {
        "x-tenant-id": other.id,
        "x-wattos-tenant": other.slug,
        "openai-organization": other.slug,
        "host": f"{other.slug}.wattos.example",
        "x-forwarded-host": f"{other.slug}.wattos.example",
        "x-original-url": f"/api/v1/tenants/{other.id}",
    }
    http = company.http["admin"]
    plain = http.get("/api/v1/users").json()
    assert http.get("/api/v1/users", headers=forged).json() == plain
    assert http.get("/api/v1/users", params={"tenant": other.id}).json() == plain
    assert http.get("/api/v1/users", params={"tenant_id": other.id}).status_code == 404
    assert http.get("/api/v1/auth/me", headers=forged).json()["tenant_id"] == company.id
    other.close()


@pytest.mark.parametrize(
    "body",
    [
        *({"email": "x"}, {"email": "a b@c.example"}, {"email": "@"}, {"email": "a@" + "b" * 254}, {"email": 3}),
        *({"email": "a@c.example", "role": "owner"}, {"email": "a@c.example", "password": "short"}),
        *({"email": "a@c.example", "password": "a" * 257}, {"email": "a@c.example", "external_id": ""}),
        *({"email": "a@c.example", "name": "\x00"}, {"email": "a@c.example", "name": "x" * 201}, {}),
    ],
)
def test_wrong_fields_are_refused(company: Company, body: dict[str, Any]) -> None:
    """With the field's name, and without the password."""
    refused = company.http["admin"].post("/api/v1/users", json=body)
    assert refused.status_code == 400
    assert str(body.get("password", "no password")) not in refused.text
