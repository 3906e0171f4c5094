"""`Idempotency-Key`: a POST that is sent again is answered again, and not done again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from idempotent_world import BETTER, CHAT, MESSAGES, PASSWORD, REPLAYED, WAIT_S, Tenant, World, running_world
from openapi_document import operations, the_document
from postgres import Cluster
from upstream import answers, embeds, fails, hangs, says
from walk import ALL, PLATFORM, PUBLIC, Step

POSTS = [one["operationId"] for _, method, one in operations(the_document()) if method == "post"]
"""Every one there is: one that is added must be walked, too."""


@pytest.fixture(scope="module")
async def database_url(cluster: Cluster) -> str:
    return await cluster.create_database()


@pytest.fixture(scope="module")
def shared_world(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("idempotency"), database_url) as made:
        yield made


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    shared_world.upstream.reset()
    yield shared_world
    shared_world.gateway.close_clients()


BODIES: dict[str, Any] = {
    "createChatCompletion": CHAT,
    "createTenant": {"name": "x", "slug": "walked"},
    "createUser": {"email": "new@a.example"},
    "changePassword": {"current_password": PASSWORD, "new_password": BETTER},
}
"""Where the walk's own would not succeed here."""

ONCE = ("signOut", "changePassword")
"""Their credential is dead afterwards."""


def sent(world: World, tenant: Tenant, step: Step, body: Any, key: str) -> httpx.Response:
    request: dict[str, Any] = {}
    if step.upload:
        request = {"files": {"file": ("x.txt", b"x")}, "data": {"purpose": "assistants"}}
    elif body is not None:
        request = {"json": body}
    is_platforms = step in PLATFORM.values()
    with world.gateway.server.admin() if is_platforms else world.gateway.http(tenant.token) as client:
        return client.post(tenant.filled(step.path), headers={"idempotency-key": key}, **request)


@pytest.mark.parametrize("name", [name for name in POSTS if name not in PUBLIC])
def test_every_post_that_is_sent_again_is_answered_again(world: World, name: str) -> None:
    """Byte for byte, and not done again: one row, one call of the vendor, one event in the audit log."""
    world.upstream.on("vec", embeds())
    world.upstream.on("guard", says('{"id": "modr-1", "model": "x", "results": []}'))
    tenant, step, key = Tenant(world), ALL[name], uuid4().hex
    body = tenant.filled(BODIES.get(name, step.body))
    if name == "createTenant":
        body["slug"] = f"walked-{uuid4().hex[:8]}"
    first = sent(world, tenant, step, body, key)
    assert 200 <= first.status_code < 300, first.text
    assert REPLAYED not in first.headers
    asked, audited = len(world.upstream.requests), world.rows("select count(*) from audit_events")
    again = sent(world, tenant, step, body, key)
    assert len(world.upstream.requests) == asked
    assert world.rows("select count(*) from audit_events") == audited
    if name in ONCE:
        assert again.status_code == 401
        return
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers[REPLAYED] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    mine = {"content-type", "x-wattos-target", "x-wattos-attempts", "x-wattos-cost-nusd", "cache-control"}
    assert {k: v for k, v in again.headers.items() if k in mine} == {
        k: v for k, v in first.headers.items() if k in mine
    }


@pytest.mark.parametrize("name", [name for name in POSTS if name in PUBLIC])
def test_where_nobody_is_known_the_key_does_nothing(world: World, name: str) -> None:
    """Signing in and refreshing: no row is written, so no token is kept."""
    before = world.rows("select count(*) from idempotent_requests")
    tenant, step = Tenant(world), ALL[name]
    with world.gateway.http() as client:
        body = tenant.filled({**step.body, "password": PASSWORD} if name == "signIn" else step.body)
        for _ in range(2):
            answer = client.post(step.path, json=body, headers={"idempotency-key": "k"})
            assert answer.status_code == (200 if name == "signIn" else 401)
            assert REPLAYED not in answer.headers
    assert world.rows("select count(*) from idempotent_requests") == before


def test_a_stream_is_replayed_as_a_stream(world: World) -> None:
    """Event for event, by OpenAI's own client; the vendor is asked once and one call is billed."""
    world.upstream.on("gpt", answers("Hello there", chunks=5))
    key = world.gateway.server.make_key(f"t-{uuid4().hex[:8]}", scopes=["models:use", "usage:read"])
    client = world.gateway.openai(key)
    header = {"Idempotency-Key": uuid4().hex}
    texts = []
    for _ in range(3):
        stream = client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "ping"}], stream=True, extra_headers=header
        )
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert "content-length" not in stream.response.headers
        texts.append("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))
    assert texts == ["Hello there"] * 3
    assert len(world.upstream.to("gpt")) == 1
    with world.gateway.http(key) as api:
        deadline = time.monotonic() + 10
        while not (rows := api.get("/api/v1/usage").json()["data"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert len(rows) == 1


def test_anthropics_streams_are_replayed_too(world: World) -> None:
    """With the request's own id where Anthropic's clients look for it."""
    body = {"model": "chat", "messages": MESSAGES, "max_tokens": 9, "stream": True}
    first, again = (world.post("/v1/messages", body, key="an-anthropic-key") for _ in range(2))
    assert first.status_code == 200, first.text
    assert b"message_stop" in first.content
    assert again.content == first.content
    assert again.headers[REPLAYED] == "true"
    assert again.headers["request-id"] == again.headers["x-request-id"] != first.headers["request-id"]


@pytest.mark.parametrize("model", ["gpt", "dies"])
def test_a_stream_that_broke_off_is_no_answer(world: World, model: str) -> None:
    """The same key runs it again, and what comes then whole is kept."""
    world.upstream.on("gpt", answers("Hello there", die_after=2), answers("Hello there"))
    key = uuid4().hex
    broken, whole, again = (world.chat(key=key, stream=True) for _ in range(3))
    assert b"[DONE]" not in broken.content
    assert b"[DONE]" in whole.content
    assert (again.content, again.headers[REPLAYED]) == (whole.content, "true")
    assert len(world.upstream.to("gpt")) == 2


def test_a_client_that_leaves_in_mid_stream_leaves_no_answer(world: World) -> None:
    """Its call is cancelled, as always: the next one with the key is the first again."""
    world.upstream.on("gpt", answers("Hello there", hold_after=2), answers("Hello there"))
    key = uuid4().hex
    body = {**CHAT, "stream": True}
    with (
        world.gateway.http() as client,
        client.stream("POST", "/v1/chat/completions", json=body, headers={"idempotency-key": key}) as left,
    ):
        next(left.iter_bytes())
    world.upstream.wait_until(lambda: world.upstream.to("gpt")[0].left_at_s)
    again = world.chat(key=key, stream=True)
    assert b"[DONE]" in again.content
    assert REPLAYED not in again.headers


def test_another_body_with_the_same_key_is_refused(world: World) -> None:
    """422 in both shapes, at once even while the first is under way; another query is another request, too."""
    key = uuid4().hex
    assert world.chat(key=key).status_code == 200
    other = world.chat(key=key, temperature=0.5)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert other.headers["x-should-retry"] == "false"
    queried = world.post("/v1/chat/completions?x=1", CHAT, key=key)
    assert queried.status_code == 422
    assert len(world.upstream.to("gpt")) == 1

    world.upstream.on("gpt", hangs, answers())
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.chat, key="under-way")
        world.upstream.wait_until(lambda: len(world.upstream.to("gpt")) == 2)
        began_s = time.monotonic()
        assert world.chat(key="under-way", temperature=0.5).status_code == 422
        assert time.monotonic() - began_s < WAIT_S
        world.upstream.release()
        first.result()


def test_a_key_belongs_to_one_route(world: World) -> None:
    """The same key elsewhere is another one, whatever the body."""
    world.upstream.on("vec", embeds())
    key = uuid4().hex
    assert world.chat(key=key).status_code == 200
    embedded = world.post("/v1/embeddings", {"model": "vectors", "input": "x"}, key=key)
    assert (embedded.status_code, REPLAYED in embedded.headers) == (200, False)
    stores = [world.post("/v1/vector_stores", {"name": name}).json()["id"] for name in ("a", "b")]
    changed = [world.post(f"/v1/vector_stores/{store}", {"name": "c"}, key=key).json()["id"] for store in stores]
    assert changed == stores


def test_twenty_at_once_are_one(world: World) -> None:
    """All get the answer of the first; the vendor is called once."""
    world.upstream.on("gpt", answers("only once", hold_after=0))
    key = uuid4().hex
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(world.chat, key=key) for _ in range(20)]
        world.upstream.wait_until(lambda: len(world.upstream.to("gpt")) == 1)
        world.upstream.release()
        got = [one.result() for one in asked]
    assert {one.status_code for one in got} == {200}
    assert len({one.content for one in got}) == 1
    assert sum(REPLAYED in one.headers for one in got) == 19
    assert len(world.upstream.to("gpt")) == 1


def test_who_waits_too_long_is_told_to_come_again(world: World) -> None:
    """409 with `retry-after`; the first goes on, and its answer is there later. A streamed one is waited for alike."""
    world.upstream.on("gpt", answers("slow", hold_after=0))
    key = uuid4().hex
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.chat, key=key)
        world.upstream.wait_until(lambda: len(world.upstream.to("gpt")) == 1)
        late = world.chat(key=key)
        assert (late.status_code, late.json()["error"]["code"]) == (409, "idempotency_in_progress")
        assert int(late.headers["retry-after"]) >= 1
        assert "x-should-retry" not in late.headers
        world.upstream.release()
        assert first.result().status_code == 200
    assert world.chat(key=key).headers[REPLAYED] == "true"


def test_a_failure_frees_the_key(world: World) -> None:
    """Whoever waits is the next to try. Refusals that follow from the request alone stay."""
    world.upstream.on("unpriced", fails(429), fails(503), answers())
    key = uuid4().hex
    got = [world.chat("free", key=key) for _ in range(4)]
    assert [(one.status_code, REPLAYED in one.headers) for one in got] == [
        (429, False),
        (502, False),
        (200, False),
        (200, True),
    ]
    wrong = [world.chat("nothing", key="wrong") for _ in range(2)]
    assert [one.status_code for one in wrong] == [404, 404]
    assert REPLAYED in wrong[1].headers
    assert wrong[1].headers["x-should-retry"] == "false"


def test_what_waits_takes_the_place_of_a_first_that_failed(world: World) -> None:
    """It does not hear of the failure: it runs itself."""
    world.upstream.on("unpriced", hangs, answers("second"))
    key = uuid4().hex
    with world.gateway.http() as client, ThreadPoolExecutor(1) as pool:
        body = {"model": "free", "messages": MESSAGES}
        headers = {"idempotency-key": key, "x-request-timeout-ms": "400"}
        first = pool.submit(client.post, "/v1/chat/completions", json=body, headers=headers)
        world.upstream.wait_until(lambda: len(world.upstream.to("unpriced")) == 1)
        second = world.chat("free", key=key)
        assert first.result().status_code == 504
    assert (second.status_code, REPLAYED in second.headers) == (200, False)
