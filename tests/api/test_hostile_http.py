"""Bytes that no client library sends, on a real socket: a clear refusal in the right shape, and never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

from app.http.error_table import TABLE
from gateway import Gateway, running_gateway
from raw_http import Answer, connected, exchange

CHAT = b'{"model":"chat","messages":[{"role":"user","content":"x"}]}'
LEVEL_ERROR = 50
"""Of pino."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"LOCAL_MODELS_ENABLED": "false", "REQUEST_BODY_TIMEOUT_S": "0.5"}
    with running_gateway(tmp_path_factory.mktemp("hostile"), env) as running:
        yield running


def request(
    line: str, *, body: bytes = b"", key: str | None = None, version: str = "HTTP/1.1", **headers: str
) -> bytes:
    """Its `content-length` is right unless another one, or a `transfer_encoding`, is given."""
    given: Mapping[str, str] = {"host": "x", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if key:
        given = {**given, "authorization": f"Bearer {key}"}
    if body and not given.keys() & {"content-length", "transfer-encoding"}:
        given = {**given, "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{line} {version}\r\n{head}\r\n".encode() + body


def code_of(answer: Answer) -> str:
    """Of an error in either shape, whose status and headers are the table's."""
    body = answer.json()
    code = str(body["error"]["code"] if "error" in body else body["code"])
    assert TABLE[code].status == answer.status
    assert answer.headers["content-type"] == ("application/json" if "error" in body else "application/problem+json")
    assert answer.headers["x-request-id"]
    return code


POST = "POST /v1/chat/completions"


@pytest.mark.parametrize(
    "data",
    [
        request(POST, body=CHAT, content_length="-1"),
        request(POST, body=CHAT, content_length="+59"),
        request(POST, body=CHAT, content_length="0x3b"),
        request(POST, body=CHAT, content_length="59, 59"),
        request(POST, body=CHAT, content_length="9" * 30),
        request(POST, body=CHAT, content_length="59\r\ncontent-length: 7"),
        request(POST, body=CHAT, content_length="59\r\ncontent-length: 59"),
        request(POST, body=b"0\r\n\r\n", content_length="5", transfer_encoding="chunked"),
        request(POST, body=b"0\r\n\r\n", transfer_encoding="chunked\r\ncontent-length: 5"),
        request(POST, body=b"0\r\n\r\n", transfer_encoding="chunked, identity"),
        request(POST, body=b"0\r\n\r\n", transfer_encoding="\x0bchunked"),
        request(POST, body=b"zz\r\n\r\n", transfer_encoding="chunked"),
        request(POST, body=b"-1\r\nx\r\n0\r\n\r\n", transfer_encoding="chunked"),
        request(POST, body=b"5\r\nabc\r\n0\r\n\r\n", transfer_encoding="chunked"),
        request("GET /v1/models", x_a="1\rx-b: 2"),
        request("GET /v1/models", x_a="1\n x-b: 2"),
        request("GET /v1/models", x_a="a\0b"),
        request("GET /v1/models").replace(b"\r\n", b"\n"),
        request("GET /v1/models").replace(b"host:", b"host :"),
        request("GET /v1/models").replace(b"host:", b" host:"),
        request("BREW /v1/models"),
        request("get /v1/models"),
        request("CONNECT example.org:443"),
        request("GET /v1/models", version="HTTP/9.9"),
        request("GET /v1/mod\x01els"),
        request("GET /v1/modäls"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\0" * 100 + b"\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused_and_the_connection_ends(gateway: Gateway, data: bytes) -> None:
    """Two lengths, length and chunks, bare CR and LF, other protocols: no second request can hide in what follows."""
    async with connected(gateway.server.port) as connection:
        await connection.send(data + request("GET /v1/models", key=gateway.key))
        answer = await connection.answer()
        assert code_of(answer) == "malformed_http"
        assert answer.headers["connection"] == "close"
        assert await connection.ended() == b""


async def test_a_length_that_is_too_short_ends_in_the_answer_to_it(gateway: Gateway) -> None:
    """The rest of the body is no request, so nothing but the first is answered."""
    async with connected(gateway.server.port) as connection:
        await connection.send(request(POST, body=CHAT, key=gateway.key, content_length="10"))
        answer = await connection.answer()
        assert code_of(answer) == "invalid_json"
        assert await connection.ended() == b""


async def test_a_length_that_is_too_long_times_out(gateway: Gateway) -> None:
    """Nothing of the half body is used."""
    async with connected(gateway.server.port) as connection:
        await connection.send(request(POST, body=CHAT, key=gateway.key, content_length="1000"))
        answer = await connection.answer()
        assert code_of(answer) == "request_timeout"
        assert await connection.ended() == b""
    assert gateway.upstream.to("gpt") == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (request("GET /v1/" + "a" * 8200), "uri_too_long"),
        (b"GET /v1/" + b"a" * 300_000, "uri_too_long"),
        (request("GET /health?" + "a" * 8200), "uri_too_long"),
        (request("GET /v1/models", **{f"x_{n}": "1" for n in range(101)}), "headers_too_large"),
        (request("GET /v1/models", x_a="a" * 65_536), "headers_too_large"),
        (b"GET /v1/models HTTP/1.1\r\nx-a: " + b"a" * 70_000, "headers_too_large"),
        (b"GET /v1/models HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, "headers_too_large"),
    ],
)
async def test_heads_have_a_bound(gateway: Gateway, data: bytes, code: str) -> None:
    """Ended or endless: refused as soon as they are over it."""
    answer = await exchange(gateway.server.port, data)
    assert code_of(answer) == code
    assert ("error" in answer.json()) is data.startswith(b"GET /v1") or code == "uri_too_long"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/realtime", "/health", "/nothing"])
async def test_websockets_are_refused_on_every_path(gateway: Gateway, path: str) -> None:
    """With or without a key; a clear 400 rather than an answer that is none."""
    wish = {"connection": "keep-alive, Upgrade", "upgrade": "WebSocket", "sec_websocket_version": "13"}
    data = request(f"GET {path}", key=gateway.key, **wish, sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==")
    assert code_of(await exchange(gateway.server.port, data)) == "websocket_unsupported"


async def test_a_wish_for_http2_is_ignored_and_its_body_read(gateway: Gateway) -> None:
    """Java's client sends it with every first request; the connection goes on."""
    wish = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMAAABkAAQCAAAAAAIAAAAA"}
    async with connected(gateway.server.port) as connection:
        for _ in range(2):
            await connection.send(request(POST, body=CHAT, key=gateway.key, **wish))
            answer = await connection.answer()
            assert answer.status == 200
            assert answer.json()["choices"][0]["message"]["content"]
        await connection.send(request("GET /v1/models", key=gateway.key, **wish) * 2)
        assert [(await connection.answer()).status for _ in range(2)] == [200, 200]


async def test_thousands_of_wishes_in_one_packet_are_no_recursion(gateway: Gateway) -> None:
    """What is behind the first few is not read."""
    data = request("GET /v1/models", key=gateway.key, connection="upgrade", upgrade="h2c")
    async with connected(gateway.server.port) as connection:
        await connection.send(data * 1500)
        assert (await connection.answer()).status == 200
        await connection.ended()


async def test_expectation_is_met_only_where_the_body_is_wanted(gateway: Gateway) -> None:
    """100 before a body that is read; the refusal at once where it is not."""
    async with connected(gateway.server.port) as connection:
        await connection.send(request(POST, key=gateway.key, content_length=str(len(CHAT)), expect="100-continue"))
        assert (await connection.answer()).status == 100
        await connection.send(CHAT)
        assert (await connection.answer()).status == 200
    unwanted = request(POST, content_length="1000", expect="100-continue")
    assert code_of(await exchange(gateway.server.port, unwanted)) == "invalid_api_key"


async def test_old_and_pipelining_clients_are_served(gateway: Gateway) -> None:
    """HTTP/1.0 closes after its answer; requests in one packet are answered in order."""
    async with connected(gateway.server.port) as connection:
        await connection.send(request("GET /v1/models", key=gateway.key, version="HTTP/1.0"))
        assert (await connection.answer()).headers["connection"] == "close"
        assert await connection.ended() == b""
    async with connected(gateway.server.port) as connection:
        get, post = request("GET /v1/models", key=gateway.key), request(POST, body=CHAT, key=gateway.key)
        await connection.send(get + post + request("GET /v1/nothing"))
        kinds = [(await connection.answer()).json().get("object", "error") for _ in range(3)]
        assert kinds == ["list", "chat.completion", "error"]


@pytest.mark.parametrize("value", ["a\tb", "a, b", "%0d%0ax-evil: 1", "a;b", '"a"', "x" * 200])
async def test_a_request_id_cannot_carry_anything_else(gateway: Gateway, value: str) -> None:
    """A fresh one replaces what is not well-formed, in a single header."""
    answer = await exchange(gateway.server.port, request("GET /v1/models", key=gateway.key, x_request_id=value))
    assert answer.status == 200
    assert len(answer.headers["x-request-id"]) == 32
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/v1/%zz", "/v1/%", "/v1/%ff%fe", "/%c0%ae%c0%ae/", "/v1/models%00", "/v1/models?%zz=%"]
)
async def test_broken_percent_encoding_is_a_path_like_any_other(gateway: Gateway, path: str) -> None:
    """Not found, or found with a query that says nothing."""
    answer = await exchange(gateway.server.port, request(f"GET {path}", key=gateway.key))
    assert answer.status == 200 if "?" in path else code_of(answer) == "not_found"


@pytest.mark.parametrize("host", ["", "a b", "x/y", "a@b", "[::1", "x:notaport"])
async def test_odd_hosts_are_no_error_of_ours(gateway: Gateway, host: str) -> None:
    """Nothing here depends on it, so it is refused or ignored."""
    answer = await exchange(
        gateway.server.port, request("GET /v1/models", key=gateway.key).replace(b": x", b": " + host.encode())
    )
    assert answer.status in {200, 400}


def test_nothing_of_all_this_is_in_the_log(gateway: Gateway) -> None:
    """No line at level error, and not a byte of a refused head or body."""
    text = gateway.server.logged()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [line for line in lines if line["level"] >= LEVEL_ERROR] == []
    assert any("malformed_http" in line["msg"] for line in lines)
    assert "messages" not in text
    assert "aaaaaaaa" not in text
