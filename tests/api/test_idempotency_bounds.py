"""`Idempotency-Key`: whose it is, what is kept of it, and what is none; uploads and their bounds."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway import running_gateway
from idempotent_world import BETTER, CHAT, PASSWORD, REPLAYED, Tenant, World, running_world
from postgres import Cluster
from upstream import answers


@pytest.fixture(scope="module")
async def database_url(cluster: Cluster) -> str:
    return await cluster.create_database()


@pytest.fixture(scope="module")
def shared_world(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("idempotency"), database_url, LOCAL_MODELS_ENABLED="false") as made:
        yield made


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    shared_world.upstream.reset()
    yield shared_world
    shared_world.gateway.close_clients()


def test_callers_never_share_an_answer(world: World) -> None:
    """Two tenants, two keys and two people of one tenant, the administrator: the same key is each one's own."""
    a, b = Tenant(world), Tenant(world)
    with world.gateway.http(a.token) as boss:
        keys = [boss.post("/api/v1/keys", json={"name": n}).raise_for_status().json()["key"] for n in "xy"]
        person = {"email": "two@a.example", "role": "admin", "password": PASSWORD}
        boss.post("/api/v1/users", json=person).raise_for_status()
    asked = {"tenant": a.slug, "email": "two@a.example", "password": PASSWORD}
    other = httpx.post(f"{world.gateway.server.url}/api/v1/auth/login", json=asked).json()["access_token"]
    callers = [*keys, a.token, other, b.token]
    answered = [world.chat(key="shared", by=caller) for caller in callers]
    assert [(one.status_code, REPLAYED in one.headers) for one in answered] == [(200, False)] * 5
    assert len(world.upstream.to("gpt")) == 5


def test_an_answer_outlives_the_access_token_that_asked(world: World) -> None:
    """A person's tokens change every ten minutes; the person stays who they are."""
    tenant = Tenant(world)
    asked = {"tenant": tenant.slug, "email": "boss@a.example", "password": PASSWORD}
    fresh = httpx.post(f"{world.gateway.server.url}/api/v1/auth/login", json=asked).json()["access_token"]
    made = [world.post("/api/v1/keys", {"name": "x"}, key="k", by=token) for token in (tenant.token, fresh)]
    assert made[0].json()["key"] == made[1].json()["key"]
    assert made[1].headers[REPLAYED] == "true"


def test_a_dead_credential_reads_nothing(world: World) -> None:
    """Authentication comes first: what was answered to a key is not answered to it once it is revoked."""
    tenant = Tenant(world)
    made = world.post("/api/v1/keys", {"name": "x"}, by=tenant.token).json()
    assert world.chat(key="mine", by=made["key"]).status_code == 200
    with world.gateway.http(tenant.token) as boss:
        boss.delete(f"/api/v1/keys/{made['id']}").raise_for_status()
    deadline = time.monotonic() + 2
    while world.chat(key="mine", by=made["key"]).status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_request_log_tells_a_replay(world: World) -> None:
    """By the request's own line: no model was called, so it says nothing of one."""
    for _ in range(2):
        answer = world.chat(key="logged")
    deadline = time.monotonic() + 10
    while not (lines := [line for line in read_lines(world) if line.get("reqId") == answer.headers["x-request-id"]]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [(line["replayed"], "llm" in line) for line in lines] == [(True, False)]


def read_lines(world: World) -> list[dict[str, Any]]:
    lines = world.gateway.server.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def test_rows_tell_nothing(world: World) -> None:
    """Neither a key that was made, nor the password in a body, nor the Idempotency-Key, nor a path, in any column."""
    tenant = Tenant(world)
    made = world.post("/api/v1/keys", {"name": "x"}, key="a-telling-key", by=tenant.token).json()
    person = {"email": "hidden@a.example", "password": BETTER}
    world.post("/api/v1/users", person, key="a-telling-key", by=tenant.token).raise_for_status()
    rows = world.rows("select id, fingerprint, answer, status from idempotent_requests")
    everything = b"".join(part for row in rows for part in row if isinstance(part, bytes))
    for secret in (made["key"], made["id"], "a-telling-key", BETTER, "hidden@a.example", "/api/v1/keys"):
        assert secret.encode() not in everything


@pytest.mark.parametrize("key", [b"", b"two words", b"x" * 256, "schlüssel".encode(), b"tab\tkey"], ids=repr)
def test_what_is_no_key_is_refused(world: World, key: bytes) -> None:
    """1 to 255 visible ASCII characters, once."""
    with world.gateway.http() as client:
        answer = client.post("/v1/chat/completions", json=CHAT, headers=[(b"idempotency-key", key)])
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("invalid_request", "Idempotency-Key")
    assert world.upstream.to("gpt") == []


def test_two_keys_are_no_key(world: World) -> None:
    """Which one would count?"""
    with world.gateway.http() as client:
        two = [("idempotency-key", "a"), ("idempotency-key", "b")]
        assert client.post("/v1/chat/completions", json=CHAT, headers=two).status_code == 400


def test_an_upload_is_done_once_whatever_its_boundary(world: World) -> None:
    """By OpenAI's client, which makes a new boundary for each try. Another file with the key is refused."""
    client = world.gateway.openai()
    header = {"Idempotency-Key": uuid4().hex}
    ids = {
        client.files.create(file=("a.txt", b"text" * 50_000), purpose="assistants", extra_headers=header).id
        for _ in range(3)
    }
    assert len(ids) == 1
    assert [file.id for file in client.files.list() if file.id in ids] == [*ids]
    form = {"files": {"file": ("a.txt", b"other")}, "data": {"purpose": "assistants"}}
    other = world.post("/v1/files", key=header["Idempotency-Key"], **form)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_an_upload_that_is_under_way_is_waited_for(world: World) -> None:
    """The other one is read to its end meanwhile, and thrown away."""
    begun, go_on = threading.Event(), threading.Event()
    head = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    head += b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    rest = b"x" * 100_000 + b"\r\n--b--\r\n"

    def slowly() -> Iterator[bytes]:
        yield head
        begun.set()
        assert go_on.wait(10)
        yield rest

    headers = {"content-type": "multipart/form-data; boundary=b", "idempotency-key": uuid4().hex}
    with world.gateway.http() as one, world.gateway.http() as two, ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.post, "/v1/files", content=slowly(), headers=headers)
        assert begun.wait(10)
        deadline = time.monotonic() + 10
        while not world.rows("select from idempotent_requests where status is null"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        second = pool.submit(two.post, "/v1/files", content=head + rest, headers=headers)
        time.sleep(0.2)
        assert not second.done()
        go_on.set()
        assert first.result().status_code == 200, first.result().text
        assert second.result().json() == first.result().json()
        assert second.result().headers[REPLAYED] == "true"


def test_an_answer_that_is_too_large_is_not_kept_and_says_so(world: World) -> None:
    """It was done: sent again it is refused, not done again."""
    world.upstream.on("gpt", answers("x" * (1 << 20)))
    key = uuid4().hex
    first, again = world.chat(key=key), world.chat(key=key)
    assert (first.status_code, len(first.content) > 1 << 20) == (200, True)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotency_answer_not_kept")
    assert again.headers["x-should-retry"] == "false"
    assert len(world.upstream.to("gpt")) == 1


def test_a_body_that_is_too_large_or_no_json_is_refused_as_ever(world: World) -> None:
    """With the same codes as without a key."""
    with world.gateway.http() as client:
        headers = {"idempotency-key": "odd"}
        large = client.post("/v1/chat/completions", content=b" " * (11 << 20), headers=headers)
        broken = client.post("/v1/chat/completions", content=b"{", headers=headers)
        form = client.post("/v1/chat/completions", files={"file": b"x"}, headers={"idempotency-key": "form"})
    assert [one.status_code for one in (large, broken, form)] == [413, 400, 415]
    assert broken.json()["error"]["code"] == "invalid_json"


def test_anonymous_callers_are_one_caller(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the security plugin off all are the default tenant, and so is a key's owner."""
    env = {"LOCAL_MODELS_ENABLED": "false", "PLUGINS_SECURITY_ENABLED": "false", "PLUGINS_CACHE_ENABLED": "false"}
    with running_gateway(tmp_path_factory.mktemp("open"), env) as gateway, gateway.http() as client:
        headers = {"idempotency-key": "k"}
        first, again = (client.post("/v1/chat/completions", json=CHAT, headers=headers) for _ in range(2))
        assert (again.content, again.headers[REPLAYED]) == (first.content, "true")
        assert len(gateway.upstream.to("gpt")) == 1
