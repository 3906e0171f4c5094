"""JSON that is meant to break something: too much, too deep, ambiguous, of the wrong type in every field there is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from app.http.error_table import TABLE
from gateway import Gateway
from raw_http import connected
from server import ADMIN_KEY
from upstream import embeds, says

LEVEL_ERROR = 50
"""Of pino."""

MARK = "hunter2-in-a-body"
NOBODY = "0" * 32

BODIES: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "chat", "messages": [{"role": "user", "content": MARK}]},
    "/v1/embeddings": {"model": "vectors", "input": MARK},
    "/v1/vector_stores": {"name": MARK},
    "/api/v1/tenants": {"name": MARK, "slug": "hostile"},
}
"""A good one for each kind of route: relayed, decoded, stored, native."""

VALUES: tuple[Any, ...] = (None, True, -1, 1.5, 1e300, 10**30, "", "x", [], [[]], [None], {}, {"x": {}}, [{"x": 1}])


@pytest.fixture(autouse=True)
def embedding(gateway: Gateway) -> None:
    gateway.upstream.on("vec", embeds())
    gateway.upstream.on("guard", says('{"id": "modr-1", "model": "x", "results": []}'))


@pytest.fixture(scope="module", autouse=True)
def n_logged(shared_gateway: Gateway) -> int:
    """Characters in the log before this module: other modules make errors on purpose."""
    return len(shared_gateway.server.logged())


@pytest.fixture(scope="module")
def client(shared_gateway: Gateway) -> Iterator[httpx.Client]:
    with shared_gateway.http(shared_gateway.server.make_key("json")) as made:
        yield made


def post(client: httpx.Client, path: str, content: bytes, **headers: str) -> httpx.Response:
    if path.startswith("/api"):
        headers["authorization"] = f"Bearer {ADMIN_KEY}"
    return client.post(path, content=content, headers={"content-type": "application/json", **headers})


def code_of(answer: httpx.Response) -> str:
    """Of an error in the shape of its path, with the table's status."""
    is_openai = answer.request.url.path.startswith("/v1/")
    code = str(answer.json()["error"]["code"] if is_openai else answer.json()["code"])
    assert answer.status_code == TABLE[code].status, answer.text[:300]
    assert answer.headers["x-request-id"]
    return code


def nested(path: str, value: str) -> bytes:
    """A good body whose unknown field holds `value`."""
    return json.dumps(BODIES[path]).encode()[:-1] + b', "extra": ' + value.encode() + b"}"


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"{} {}", "invalid_json"),
        (b"NaN", "invalid_json"),
        (b"\xff\xfe{\0}\0", "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"model": "\xff"}', "invalid_json"),
        (b'{"model": "\xed\xa0\x80"}', "invalid_json"),
        (b'{"model": "\\ud800"}', "invalid_json"),
        (b'{"model": "a\0b"}', "invalid_json"),
        (b'{"a": 1, "a": 2}', "duplicate_key"),
    ],
)
def test_what_is_no_json_is_refused_the_same_everywhere(
    client: httpx.Client, path: str, content: bytes, code: str
) -> None:
    """Cut, doubled, in other encodings, with lone surrogates: on relayed, stored and native routes."""
    answer = post(client, path, content)
    if (path, content) == ("/v1/vector_stores", b""):
        assert answer.status_code == 200  # OpenAI's client sends no body for a store without a name
    elif path.startswith("/api"):
        assert code_of(answer) in {code, "invalid_request"}  # there an unknown field may be what is found first
    else:
        assert code_of(answer) == code


@pytest.mark.parametrize("path", BODIES)
def test_twenty_thousand_levels_are_refused(client: httpx.Client, path: str) -> None:
    """As arrays, as objects, in a known field and in an unknown one."""
    for deep in ("[" * 20_000 + "]" * 20_000, '{"a":' * 20_000 + "1" + "}" * 20_000):
        assert code_of(post(client, path, deep.encode())) in {"invalid_json", "invalid_request"}
        assert code_of(post(client, path, nested(path, deep))) in {"invalid_json", "invalid_request"}


@pytest.mark.parametrize(
    "content",
    [
        b'{"model": "chat", "model": "free", "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "chat", "messages": [{"role": "user", "role": "system", "content": "x"}]}',
        b'{"model": "chat", "mod\\u0065l" : "free", "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "chat", "messages": [{"role": "user", "content": "x"}], "x": [{"a": {"b": 1, "b": "\\u003a"}}]}',
    ],
)
def test_a_key_twice_reaches_no_vendor(gateway: Gateway, content: bytes) -> None:
    """At any depth and however it is written: who filters in front of us, and the vendor, might read the other one."""
    with gateway.http() as client:
        assert code_of(post(client, "/v1/chat/completions", content)) == "duplicate_key"
    assert gateway.upstream.requests == []


@pytest.mark.parametrize("text", ['a: "b": c', "\\", 'x\\": {"a": 1, "a": 2}', "ä: ö ☃ \u2028", ":" * 1000])
def test_colons_in_texts_are_no_keys(gateway: Gateway, text: str) -> None:
    """What is said is relayed, letter by letter."""
    answer = gateway.post({"model": "chat", "messages": [{"role": "user", "content": text}], "metadata": {text: text}})
    assert answer.status_code == 200, answer.text
    assert gateway.upstream.requests[0].body["messages"][0]["content"] == text


async def test_20_mb_are_refused_before_they_are_read(shared_gateway: Gateway) -> None:
    """By what the length says, before a byte of the body; without a length, once it is over the limit."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {shared_gateway.key}\r\n".encode()
    async with connected(shared_gateway.server.port) as connection:
        await connection.send(head + b"content-length: 20000000\r\n\r\n")
        answer = await connection.answer()
        assert (answer.status, answer.json()["error"]["code"]) == (413, "request_too_large")
        assert answer.headers["connection"] == "close"
        await connection.ended()
    async with connected(shared_gateway.server.port) as connection:
        await connection.send(head + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(11):
            await connection.send(b"100000\r\n" + b"x" * (1 << 20) + b"\r\n")
        answer = await connection.answer()  # though no end of it has come
        assert (answer.status, answer.json()["error"]["code"]) == (413, "request_too_large")
        await connection.ended()


def test_a_client_that_sends_all_of_20_mb_reads_the_refusal(client: httpx.Client) -> None:
    """The connection is not reset under the answer."""
    for content in (b"x" * 20_000_000, (b"x" * 1_000_000 for _ in range(20))):
        answer = client.post("/v1/chat/completions", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "application/json",
        "application/json; charset=UTF-8",
        "APPLICATION/JSON",
        "application/vnd.api+json",
        "application/x-www-form-urlencoded",
        "text/plain;charset=utf-8",
        "application/octet-stream",
    ],
)
def test_what_small_clients_call_json_is_taken(client: httpx.Client, kind: str | None) -> None:
    """The README's curl says that it is a form."""
    headers = {} if kind is None else {"content-type": kind}
    content = json.dumps(BODIES["/v1/embeddings"]).encode()
    assert client.post("/v1/embeddings", content=content, headers=headers).status_code == 200


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/xml"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/msgpack"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-encoding": "gzip"},
    ],
)
def test_what_is_clearly_something_else_is_415(client: httpx.Client, path: str, headers: dict[str, str]) -> None:
    """By its type, its charset or its encoding, before it is read as JSON."""
    answer = post(client, path, json.dumps(BODIES[path]).encode(), **headers)
    assert code_of(answer) == "unsupported_media_type"


def test_every_field_of_every_json_route_refuses_every_wrong_type(client: httpx.Client) -> None:
    """By the OpenAPI document: no value of any type in any field of any route is a 500."""
    document = client.get("/schema/openapi.json").raise_for_status().json()
    n_tried, odd = 0, []
    for method, path, schema in _json_routes(document):
        url = path
        for name in ("store_id", "file_id", "id"):
            url = url.replace("{" + name + "}", f"vs_{NOBODY}")
        good = BODIES.get(path, {})
        for field in _fields(document, schema):
            for value in VALUES:
                headers = {"authorization": f"Bearer {ADMIN_KEY}"} if path.startswith("/api") else {}
                answer = client.request(method, url, json=_with(good, field, value), headers=headers)
                n_tried += 1
                if answer.status_code >= 500:
                    odd.append((method, path, field, value, answer.text[:200]))
                elif answer.status_code >= 400:
                    code_of(answer)
    assert odd == []
    assert n_tried > 20 * len(VALUES)


def _json_routes(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}) if isinstance(operation, dict) else {}
            if "application/json" in content:
                yield method, path, content["application/json"]["schema"]


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, ...]]:
    """Paths to every property, through references, alternatives and arrays, four levels down."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for alternative in [*schema.get("oneOf", ()), *schema.get("anyOf", ()), *schema.get("allOf", ())]:
        yield from _fields(document, alternative, depth)
    if depth < 4 and "items" in schema:
        yield from (("0", *rest) for rest in _fields(document, schema["items"], depth + 1))
    for name, inner in schema.get("properties", {}).items():
        yield (name,)
        if depth < 4:
            yield from ((name, *rest) for rest in _fields(document, inner, depth + 1))


def _with(good: Any, field: tuple[str, ...], value: Any) -> Any:
    """A copy of `good` with `value` at `field`; "0" is an array's only element."""
    name, *rest = field
    if name == "0":
        return [_with({}, tuple(rest), value) if rest else value]
    inner = _with({}, tuple(rest), value) if rest else value
    return {**(good if isinstance(good, dict) else {}), name: inner}


def test_nothing_of_all_this_is_in_the_log(shared_gateway: Gateway, n_logged: int) -> None:
    """No body, no line at level error."""
    text = shared_gateway.server.logged()[n_logged:]
    assert MARK not in text
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    own = [line for line in lines if str((line.get("req") or {}).get("url")) in BODIES]
    assert own
    assert [line for line in own if line["level"] >= LEVEL_ERROR] == []
