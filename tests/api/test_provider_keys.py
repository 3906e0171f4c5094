"""A tenant's own keys of vendors: used for its calls alone, sealed at rest, never shown again."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from gateway import Gateway
from postgres import Cluster
from server import environment, running, wattos
from upstream import API_KEY, answers, fails, running_upstream

pytestmark = pytest.mark.requirement("SEC-2")

OLD, NEW = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
OWN = "sk-of-the-tenant-itself-123456"


def entry(alias: str, model: str, url: str, use: str | None, **params: object) -> dict[str, Any]:
    return {
        "model_name": alias,
        "litellm_params": {"model": f"openai/{model}", "api_base": url, "api_key": API_KEY, **params},
        "model_info": {} if use is None else {"x_wattos_tenant_key": use},
    }


class Stack:
    """A gateway on a database of its own, whose rows a test may look at."""

    def __init__(self, gateway: Gateway, database: str, env: dict[str, str]) -> None:
        self.gateway = gateway
        self.database = database
        self.env = env

    def rows(self, statement: str) -> list[Any]:
        async def read() -> list[Any]:
            async with await psycopg.AsyncConnection.connect(self.database, autocommit=True) as connection:
                done = await connection.execute(statement.encode())
                return await done.fetchall() if done.description else []

        return asyncio.run(read())


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    tmp_path = tmp_path_factory.mktemp("provider-keys")
    database = asyncio.run(cluster.create_database())
    with running_upstream() as upstream:
        secret = {"extra_headers": {"x-operator": "operators-own-secret"}, "organization": "org-operator"}
        models = [
            entry("allowed", "gpt", upstream.url, "allowed", **secret),
            entry("required", "gpt", upstream.url, "required"),
            entry("unsaid", "gpt", upstream.url, None),
            entry("chain", "gpt", upstream.url, "allowed"),
            entry("chain", "spare", upstream.url, None),
        ]
        config = tmp_path / "models.yaml"
        config.write_text(json.dumps({"model_list": models}))
        env = environment(
            tmp_path / "data",
            DATABASE_URL=database,
            MODELS_CONFIG=str(config),
            LOCAL_MODELS_ENABLED="false",
            ENCRYPTION_KEY=OLD,
            RETRY_MAX_ATTEMPTS="1",
            CIRCUIT_BREAKER_FAILURE_THRESHOLD="2",
            OUTBOUND_ALLOWED_HOSTS="127.0.0.1",
        )
        with running(env, tmp_path / "server.log") as server:
            yield Stack(Gateway(server, upstream), database, env)


class Tenant:
    def __init__(self, stack: Stack) -> None:
        self.gateway = stack.gateway
        self.slug = f"own-{uuid4().hex[:8]}"
        self.key = stack.gateway.server.make_key(self.slug, scopes=["models:use", "provider-keys:manage"])
        self.http = stack.gateway.http(self.key)

    def put(self, key: str = OWN, **fields: object) -> httpx.Response:
        return self.http.post("/api/v1/provider-keys", json={"provider": "openai", "key": key, **fields})

    def used(self, model: str) -> str:
        """The credential that the vendor got."""
        upstream = self.gateway.upstream
        upstream.reset()
        upstream.on("gpt", answers("hello"))
        assert self.gateway.ask(model, self.key).status_code == 200
        return upstream.requests[-1].headers["authorization"].removeprefix("Bearer ")


@pytest.fixture
def tenant(stack: Stack) -> Iterator[Tenant]:
    made = Tenant(stack)
    yield made
    made.http.close()


def test_the_tenants_own_key_is_used_for_its_calls_alone(stack: Stack, tenant: Tenant) -> None:
    """At once where it was set; where the configuration allows it; and again the operator's once it is deleted."""
    other = Tenant(stack)
    assert tenant.used("allowed") == API_KEY
    made = tenant.put(name="physics").json()
    assert tenant.used("allowed") == OWN
    assert "openai-organization" not in stack.gateway.upstream.requests[-1].headers
    assert tenant.used("unsaid") == API_KEY, "an address of the operator's must not see it unless that is said"
    assert other.used("allowed") == API_KEY
    replaced = tenant.put("sk-another-one-of-it-7890123").json()
    assert (replaced["hint"], replaced["id"] != made["id"]) == ("0123", True)
    assert tenant.used("allowed") == "sk-another-one-of-it-7890123"
    assert tenant.http.delete(f"/api/v1/provider-keys/{made['id']}").status_code == 404
    assert tenant.http.delete(f"/api/v1/provider-keys/{replaced['id']}").status_code == 204
    assert tenant.used("allowed") == API_KEY
    other.http.close()


def test_a_target_may_need_it(tenant: Tenant) -> None:
    """Without one nothing is sent, and it is said what to do."""
    tenant.gateway.upstream.reset()
    refused = tenant.gateway.ask("required", tenant.key)
    assert refused.status_code == 502
    assert "POST /api/v1/provider-keys" in refused.text
    assert tenant.gateway.upstream.requests == []
    tenant.put()
    assert tenant.used("required") == OWN


def test_it_is_never_shown_again(stack: Stack, tenant: Tenant) -> None:
    """Neither in an answer, nor in the database, the log or the audit log."""
    made = tenant.put()
    listed = tenant.http.get("/api/v1/provider-keys")
    assert made.json()["hint"] == listed.json()["data"][0]["hint"] == OWN[-4:]
    tenant.used("allowed")
    tenant.gateway.upstream.on("gpt", fails(401, f"Incorrect API key provided: {OWN}"))
    failed = tenant.gateway.ask("allowed", tenant.key)
    rows = stack.rows("select provider_keys::text, encode(sealed, 'escape') from provider_keys")
    events = stack.rows("select payload from audit_events")
    log = stack.gateway.server.logged()
    for text in (made.text, listed.text, failed.text, str(rows), str(events), log):
        assert OWN not in text


def test_what_goes_wrong_with_it_harms_nobody_else(stack: Stack, tenant: Tenant) -> None:
    """Its own quota or address opens no breaker for others, and the operator's health does not hear of it."""
    other = Tenant(stack)
    tenant.put()
    for script in (fails(429), fails(500), fails(401)):
        tenant.gateway.upstream.reset()
        tenant.gateway.upstream.on("gpt", script)
        for _ in range(5):
            assert tenant.gateway.ask("allowed", tenant.key).status_code >= 400
    assert other.used("allowed") == API_KEY
    other.http.close()


def test_the_chain_goes_on_after_it(stack: Stack, tenant: Tenant) -> None:
    """With the operator's key, to a target that is the operator's."""
    tenant.put()
    upstream = stack.gateway.upstream
    upstream.reset()
    upstream.on("gpt", fails(401))
    upstream.on("spare", answers("from the spare one"))
    assert stack.gateway.ask("chain", tenant.key).status_code == 200
    assert [one.headers["authorization"] for one in upstream.requests] == [f"Bearer {OWN}", f"Bearer {API_KEY}"]


def test_an_address_of_its_own(stack: Stack, tenant: Tenant) -> None:
    """The call goes there, without what the operator has for the vendor."""
    with running_upstream() as elsewhere:
        elsewhere.on("gpt", answers("from elsewhere"))
        assert tenant.put(base_url=elsewhere.url).status_code == 200
        answer = stack.gateway.ask("allowed", tenant.key)
        assert answer.json()["choices"][0]["message"]["content"] == "from elsewhere"
        (got,) = elsewhere.requests
        assert got.headers["authorization"] == f"Bearer {OWN}"
        assert "operators-own-secret" not in str(got.headers)
        assert "org-operator" not in str(got.headers)


@pytest.mark.parametrize(
    "url",
    [
        *("http://169.254.169.254/latest", "https://127.1/v1", "https://[::1]/v1", "https://localhost/v1", "file:///x"),
        *("https://10.0.0.1/v1", "https://db.internal/v1", "http://api.openai.com/v1", "https://u:p@a.example/v1"),
    ],
)
def test_an_address_inside_is_refused(tenant: Tenant, url: str) -> None:
    """With a stable code, by the field, before it is kept."""
    refused = tenant.put(base_url=url)
    assert (refused.status_code, refused.json()["code"], refused.json()["param"]) == (
        400,
        "address_refused",
        "base_url",
    )


@pytest.mark.parametrize(
    "body",
    [
        {"provider": "openai"},
        {"provider": "Open AI", "key": "k"},
        {"provider": "openai", "key": ""},
        {"provider": "openai", "key": "with space"},
        {"provider": "openai", "key": "x\r\ninjected: 1"},
        {"provider": "openai", "key": "k", "tenant": "x"},
        {"provider": "openai", "key": "k" * 1025},
    ],
)
def test_wrong_fields_are_refused(tenant: Tenant, body: dict[str, str]) -> None:
    """And nothing of them is shown."""
    refused = tenant.http.post("/api/v1/provider-keys", json=body)
    assert refused.status_code == 400
    assert "injected" not in refused.text


def test_a_sealed_key_opens_in_its_place_alone(stack: Stack, tenant: Tenant) -> None:
    """Given to another tenant's row, or changed, it opens nothing: the operator's key is used, and the log says why."""
    other = Tenant(stack)
    tenant.put()
    other.put("sk-of-the-other-one-987654")
    stack.rows(
        "update provider_keys a set sealed = b.sealed from provider_keys b, tenants s, tenants t"
        f" where t.slug = '{tenant.slug}' and s.slug = '{other.slug}' and a.tenant_id = t.id and b.tenant_id = s.id"
    )
    assert tenant.used("allowed") == API_KEY
    deadline = time.monotonic() + 5
    while "not where it was put" not in stack.gateway.server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert other.used("allowed") == "sk-of-the-other-one-987654"
    assert tenant.http.delete(f"/api/v1/provider-keys/{tenant.put().json()['id']}").status_code == 204
    other.http.close()


def test_keys_are_sealed_anew_by_a_command(stack: Stack, tenant: Tenant) -> None:
    """With both keys set the first seals and both open; afterwards the old one can go, and nothing is lost."""
    tenant.put()
    both = {**stack.env, "ENCRYPTION_KEY": f"{NEW}, {OLD}"}
    before = stack.rows("select id, sealed from provider_keys")
    rotated = wattos(both, "secrets", "rotate")
    assert (rotated.returncode, rotated.stdout) == (0, f"{len(before)} sealed anew\n"), rotated.stderr
    assert set(before).isdisjoint(stack.rows("select id, sealed from provider_keys"))
    assert wattos({**both, "ENCRYPTION_KEY": NEW}, "secrets", "rotate").stdout == "0 sealed anew\n"
    lost = wattos({**both, "ENCRYPTION_KEY": OLD}, "secrets", "rotate")
    assert (lost.returncode, lost.stderr) == (
        1,
        "wattos: a secret was sealed with a key that is not in ENCRYPTION_KEY\n",
    )
    with running({**stack.env, "ENCRYPTION_KEY": NEW}, stack.gateway.server.log) as server:
        stack.gateway.upstream.on("gpt", answers("hello"))
        with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {tenant.key}"}) as client:
            asked = {"model": "allowed", "messages": [{"role": "user", "content": "ping"}]}
            assert client.post("/v1/chat/completions", json=asked).status_code == 200
    assert stack.gateway.upstream.requests[-1].headers["authorization"] == f"Bearer {OWN}"
    wattos({**stack.env, "ENCRYPTION_KEY": f"{OLD},{NEW}"}, "secrets", "rotate")


@pytest.mark.parametrize(
    "value",
    ["x", "a" * 44, base64.b64encode(b"short").decode(), f"{OLD},x"],
    ids=["no base64", "another length", "short", "one of two"],
)
def test_an_encryption_key_that_is_none_stops_the_start(stack: Stack, value: str) -> None:
    """One line that says how to make one; never the value."""
    refused = wattos({**stack.env, "ENCRYPTION_KEY": value}, "secrets", "rotate")
    assert refused.returncode == 2
    assert "32 bytes in base64" in refused.stderr
    assert OLD not in refused.stderr
