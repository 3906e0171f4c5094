"""The walk: every operation of the OpenAPI document, with another tenant's ids, as a viewer, a dead key, and nobody.

A route that is added and not said how to walk fails `test_every_operation_is_walked`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway, running_gateway
from openapi_document import operations, the_document
from walk import ABSENT, ALL, NAMING, OWN, PLATFORM, PUBLIC, Step

pytestmark = pytest.mark.requirement("SEC-2")

SECRET = "Der Schließfachcode lautet Polarfuchs-31."
PASSWORD = "vier Birnen auf dem Tisch"


class Tenant:
    """A tenant with one of everything, and its people."""

    def __init__(self, gateway: Gateway, name: str, text: str) -> None:
        self.gateway = gateway
        self.slug = f"{name}-{uuid4().hex[:8]}"
        with gateway.server.admin() as api:
            self.id = api.post("/api/v1/tenants", json={"name": name, "slug": self.slug}).json()["id"]
            made = {
                role: api.post(
                    "/api/v1/users",
                    json={
                        "tenant_id": self.id,
                        "email": f"{who}@{name}.example",
                        "role": role,
                        "password": PASSWORD,
                    },
                ).raise_for_status()
                for role, who in (("admin", "boss"), ("viewer", "guest"))
            }
        self.user = made["admin"].json()["id"]
        self.admin = self.signed_in(f"boss@{name}.example")
        self.viewer = self.signed_in(f"guest@{name}.example")
        self.key = self.admin.post("/api/v1/keys", json={"name": f"key of {name}"}).json()
        self.pkey = self.admin.post(
            "/api/v1/provider-keys", json={"provider": "groq", "key": f"gsk-of-{name}-1234567890"}
        ).json()
        self.budget = self.admin.post(
            "/api/v1/budgets",
            json={"scope": "user", "scope_id": self.user, "period": "month", "amount_nusd": 10**12},
        ).json()
        client = gateway.openai(self.key["key"])
        self.store = client.vector_stores.create(name=f"store of {name}").id
        self.file = client.vector_stores.files.upload_and_poll(
            vector_store_id=self.store, file=(f"{name}.txt", text.encode()), poll_interval_ms=50
        ).id
        gateway.close_clients()

    def signed_in(self, email: str) -> httpx.Client:
        asked = {"tenant": self.slug, "email": email, "password": PASSWORD}
        answer = httpx.post(f"{self.gateway.server.url}/api/v1/auth/login", json=asked).raise_for_status()
        return self.gateway.http(answer.json()["access_token"])

    @property
    def ids(self) -> dict[str, str]:
        return {
            "file": self.file,
            "store": self.store,
            "tenant": self.id,
            "key": self.key["id"],
            "user": self.user,
            "pkey": self.pkey["id"],
            "budget": self.budget["id"],
            "slug": self.slug,
        }

    @property
    def marks(self) -> list[str]:
        """What nobody else may see a byte of."""
        secrets = [SECRET[-15:], self.key["prefix"], "boss@a.example", "gsk-of-a", self.slug, "store of a", "a.txt"]
        return [*secrets, *(value.partition("_")[2] for name, value in self.ids.items() if name != "slug")]


class World:
    """Tenant A, whose things are asked for, and tenant B, who asks."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.a = Tenant(gateway, "a", SECRET)
        self.b = Tenant(gateway, "b", "Im Hof steht eine Linde.")
        dead = self.a.admin.post("/api/v1/keys", json={"name": "dead"}).json()
        assert self.a.admin.delete(f"/api/v1/keys/{dead['id']}").status_code == 204
        self.dead = gateway.http(dead["key"])
        self.nobody = httpx.Client(base_url=gateway.server.url, timeout=30)

    def close(self) -> None:
        for client in (self.a.admin, self.a.viewer, self.b.admin, self.b.viewer, self.dead, self.nobody):
            client.close()

    def statements(self) -> int:
        """How many the server has sent to the database so far."""
        metrics = httpx.get(f"{self.gateway.server.url}/health/metrics").text
        return sum(int(float(value)) for value in re.findall(r"^db_queries_total\{.*\} (\S+)$", metrics, re.M))


def filled(value: Any, ids: Mapping[str, str]) -> Any:
    text = json.dumps(value)
    for name, one in ids.items():
        text = text.replace(f"{{{name}}}", one)
    return json.loads(text)


def call(client: httpx.Client, step: Step, ids: Mapping[str, str]) -> httpx.Response:
    request: dict[str, Any] = {"params": filled(dict(step.query), ids)} if step.query else {}
    if step.upload:
        request |= {"files": {"file": ("x.txt", b"x")}, "data": {"purpose": "assistants"}}
    elif step.body is not None:
        request["json"] = filled(step.body, ids)
    return client.request(step.method, filled(step.path, ids), **request)


def without_ids(answer: httpx.Response, *known: Mapping[str, str]) -> str:
    """The body, in which one id looks like another."""
    text = answer.text
    for ids in known:
        for one in ids.values():
            text = text.replace(one, "…")
    return re.sub(r'"(?:request_id|instance)":"[^"]*"', "", text)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Health is not checked meanwhile: its statements would be counted, too."""
    with running_gateway(tmp_path_factory.mktemp("walk"), {"HEALTH_CHECK_INTERVAL_S": "300"}) as gateway:
        made = World(gateway)
        yield made
        made.close()


def test_every_operation_is_walked() -> None:
    """Also one that is added later."""
    assert {one["operationId"] for _, _, one in operations(the_document())} == ALL.keys()


def test_the_owner_gets_in(world: World) -> None:
    """What is refused below is there: its owner reads it, and finds the secret."""
    for name in ("retrieveFile", "getVectorStore", "getKey", "getUser", "listAuditEvents", "listProviderKeys"):
        assert call(world.a.admin, NAMING[name], world.a.ids).status_code == 200, name
    assert "Polarfuchs-31" in call(world.a.admin, NAMING["createChatCompletion"], world.a.ids).text
    assert "Polarfuchs-31" in call(world.a.viewer, NAMING["searchVectorStore"], world.a.ids).text


@pytest.mark.parametrize("name", NAMING)
def test_what_is_not_yours_is_not_there(world: World, name: str) -> None:
    """Status, body and number of statements of the one are those of the other; not a byte of A's."""
    step = NAMING[name]
    spent: dict[str, set[int]] = {"theirs": set(), "nobody's": set()}
    for _ in range(3):
        for whose, ids in (("theirs", world.a.ids), ("nobody's", ABSENT)):
            before = world.statements()
            answer = call(world.b.admin, step, ids)
            spent[whose].add(world.statements() - before)
            assert answer.status_code == 404, f"{whose}: {answer.text}"
            if whose == "theirs":
                theirs = answer
            else:
                assert without_ids(theirs, world.a.ids) == without_ids(answer, ABSENT)
        asked = json.dumps([filled(step.path, world.a.ids), filled(step.body, world.a.ids)])
        assert [mark for mark in world.a.marks if mark in theirs.text and mark not in asked] == []
        if min(spent["theirs"]) == min(spent["nobody's"]):
            return
    raise AssertionError(f"statements: {spent}")


@pytest.mark.parametrize("name", {**NAMING, **PLATFORM})
def test_a_viewer_of_another_tenant_gets_nothing(world: World, name: str) -> None:
    """Nor learns anything: refused for lack of a permission before anything is looked up, or not there."""
    step = ALL[name]
    answer = call(world.b.viewer, step, world.a.ids)
    assert answer.status_code == (404 if step.viewer else 403)
    assert answer.text.replace(world.a.id, "").find("Polarfuchs") < 0


@pytest.mark.parametrize("name", {**NAMING, **OWN, **PLATFORM})
def test_a_viewer_changes_nothing_of_its_own_tenant(world: World, name: str) -> None:
    """By the one table of permissions: reading and asking, and nothing else."""
    step = ALL[name]
    if name in ("signOut", "changePassword"):
        return  # its own session and password: test_sign_in
    answer = call(world.a.viewer, step, world.a.ids)
    assert (answer.status_code != 403) is step.viewer, answer.text
    if not step.viewer:
        assert "permission_denied" in answer.text


@pytest.mark.parametrize("name", {**NAMING, **OWN, **PLATFORM})
@pytest.mark.parametrize("who", ["dead", "nobody"])
def test_a_revoked_key_and_nobody_get_one_answer(world: World, who: str, name: str) -> None:
    """The same for every operation, whatever is asked for, and whether it is there."""
    client = world.dead if who == "dead" else world.nobody
    answers = [call(client, ALL[name], ids) for ids in (world.a.ids, ABSENT)]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert "invalid_api_key" in answers[0].text or "authentication_error" in answers[0].text
    assert without_ids(answers[0], world.a.ids) == without_ids(answers[1], ABSENT)


@pytest.mark.parametrize("name", OWN)
def test_ones_own_shows_nothing_of_others(world: World, name: str) -> None:
    """Lists, and answers of models that were asked the same."""
    if name in ("signOut", "changePassword"):
        return
    answer = call(world.b.admin, OWN[name], world.b.ids)
    assert [mark for mark in world.a.marks if mark in answer.text] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_tells_nothing_of_a_tenant(world: World, name: str) -> None:
    """A wrong password reads the same for tenants that are there and those that are not."""
    theirs, nobodys = (call(world.nobody, PUBLIC[name], ids) for ids in (world.a.ids, ABSENT))
    assert [mark for mark in world.a.marks if mark in theirs.text] == []
    if name in ("signIn", "refreshTokens"):
        assert (theirs.status_code, nobodys.status_code) == (401, 401)
        assert without_ids(theirs) == without_ids(nobodys)


def test_everything_of_as_is_untouched(world: World) -> None:
    """After all that was tried."""
    for name in ("retrieveFile", "getVectorStore", "getVectorStoreFile", "getKey", "getUser"):
        assert call(world.a.admin, NAMING[name], world.a.ids).status_code == 200, name
    assert world.a.admin.get(f"/api/v1/users/{world.a.user}").json()["role"] == "admin"
    with world.gateway.http(world.a.key["key"]) as client:
        assert client.get("/v1/models").status_code == 200
