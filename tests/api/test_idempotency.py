"""`Idempotency-Key`: a POST that is sent again is answered again, and not done again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from gateway import Gateway, running_gateway
from openapi_document import operations, the_document
from postgres import Cluster
from upstream import answers, embeds, fails, hangs, says
from walk import ALL, PLATFORM, PUBLIC, QUESTION, Step

WAIT_S = 1.0
REPLAYED = "idempotent-replayed"
MESSAGES = [{"role": "user", "content": "ping"}]
CHAT = {"model": "chat", "messages": MESSAGES}
PASSWORD = "vier Birnen auf dem Tisch"
BETTER = "drei Äpfel unter dem Bett"

POSTS = [one["operationId"] for _, method, one in operations(the_document()) if method == "post"]
"""Every one there is: one that is added must be walked, too."""


class World:
    """A gateway whose duplicates wait a second, and the database behind it."""

    def __init__(self, gateway: Gateway, database_url: str) -> None:
        self.gateway = gateway
        self.upstream = gateway.upstream
        self.database_url = database_url

    def post(
        self, path: str, body: Any = None, *, key: str | None = None, by: str | None = None, **request: Any
    ) -> httpx.Response:
        """`key`: the Idempotency-Key, a new one unless said. `by`: a credential."""
        headers = {"idempotency-key": key or uuid4().hex}
        with self.gateway.http(by) as client:
            return client.post(path, json=body, headers=headers, **request)

    def chat(
        self, model: str = "chat", *, key: str | None = None, by: str | None = None, **fields: Any
    ) -> httpx.Response:
        return self.post("/v1/chat/completions", {"model": model, "messages": MESSAGES, **fields}, key=key, by=by)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement.encode()).fetchall()


@pytest.fixture(scope="module")
async def database_url(cluster: Cluster) -> str:
    return await cluster.create_database()


@pytest.fixture(scope="module")
def shared_world(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The cache is off: nothing here needs it. No retries of its own: a failure is answered."""
    env = {
        "DATABASE_URL": database_url,
        "IDEMPOTENCY_WAIT_S": str(WAIT_S),
        "RETRY_MAX_ATTEMPTS": "1",
        "PLUGINS_CACHE_ENABLED": "false",
    }
    with running_gateway(tmp_path_factory.mktemp("idempotency"), env) as gateway:
        yield World(gateway, database_url)


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    shared_world.upstream.reset()
    yield shared_world
    shared_world.gateway.close_clients()


class Tenant:
    """One with everything that the walk's bodies name. Made anew for each operation: some of them end it."""

    def __init__(self, world: World) -> None:
        gateway, self.slug = world.gateway, f"walked-{uuid4().hex[:8]}"
        with gateway.server.admin() as api:
            self.id = api.post("/api/v1/tenants", json={"name": "x", "slug": self.slug}).json()["id"]
            person = {"tenant_id": self.id, "email": "boss@a.example", "role": "admin", "password": PASSWORD}
            self.user = api.post("/api/v1/users", json=person).raise_for_status().json()["id"]
        asked = {"tenant": self.slug, "email": "boss@a.example", "password": PASSWORD}
        tokens = httpx.post(f"{gateway.server.url}/api/v1/auth/login", json=asked).raise_for_status().json()
        self.token = str(tokens["access_token"])
        with gateway.http(self.token) as client:
            form = {"file": ("x.txt", QUESTION.encode())}
            uploaded = client.post("/v1/files", files=form, data={"purpose": "assistants"})
            self.file = uploaded.raise_for_status().json()["id"]
            self.store = client.post("/v1/vector_stores", json={"name": "x"}).raise_for_status().json()["id"]

    def filled(self, text: Any) -> Any:
        found = json.dumps(text)
        ids = {"file": self.file, "store": self.store, "tenant": self.id, "user": self.user, "slug": self.slug}
        for name, one in ids.items():
            found = found.replace(f"{{{name}}}", one)
        return json.loads(found)


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
    """The other one is read to its end meanwhile, and thrown away; one whose first left may be sent again."""
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
