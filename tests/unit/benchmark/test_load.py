"""The bench's load generator and its upstream, on real sockets: every answer is counted, every bad one by its kind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from bench.gateway.cases import LARGE_BYTES, SMALL_BYTES, Job, Offer
from bench.gateway.load import Requests, run
from bench.gateway.upstream import TEXT, Vendor
from server import free_port

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def vendor(latency_s: float = 0.0) -> AsyncGenerator[int]:
    server = await asyncio.get_running_loop().create_server(lambda: Vendor(latency_s), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def answering(answer: bytes, *, closes: bool = False) -> AsyncGenerator[int]:
    """A server with this one answer to all that comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
            await writer.drain()
            if closes:
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def job(port: int, **fields: object) -> Job:
    return Job(**{"port": port, "key": "sk-x", "n_connections": 2, "n_calls": 4, **fields})  # type: ignore[arg-type]


def http(head: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {head}\r\n\r\n".encode() + body


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("prompt_bytes", [SMALL_BYTES, LARGE_BYTES])
async def test_closed_loop_counts_each_answer(is_stream: bool, prompt_bytes: int) -> None:
    """As many calls as asked for, all good, each with its latency; first bytes are for streams."""
    async with vendor() as port:
        [outcome] = await run(job(port, n_calls=50, is_stream=is_stream, prompt_bytes=prompt_bytes))
    assert (outcome.n_calls, outcome.errors) == (50, {})
    assert outcome.latency_ms is not None
    assert outcome.latency_ms.p50 <= outcome.latency_ms.p99 <= outcome.latency_ms.max
    assert (outcome.first_byte_ms is not None) == is_stream


async def test_closed_loop_ends_after_its_time() -> None:
    """With `seconds` it stops asking then; answers under way still count."""
    async with vendor(latency_s=0.01) as port:
        [outcome] = await run(job(port, n_calls=None, seconds=0.1))
    assert outcome.n_calls >= 2
    assert outcome.errors == {}


async def test_open_loop_offers_what_was_asked() -> None:
    """Each part comes at its own rate, and is counted by itself."""
    offers = (Offer("small", SMALL_BYTES, 200.0), Offer("large", LARGE_BYTES, 50.0))
    async with vendor() as port:
        small, large = await run(job(port, n_calls=None, seconds=0.2, offers=offers, n_connections=50))
    assert [(o.label, o.n_calls, o.n_errors) for o in (small, large)] == [("small", 40, 0), ("large", 10, 0)]


async def test_open_loop_counts_the_wait_for_a_connection() -> None:
    """Latency begins when a request is due: with one connection to a slow server the last one waits for all others."""
    latency_s, n_calls = 0.02, 10
    offers = (Offer("small", SMALL_BYTES, 1000.0),)
    async with vendor(latency_s) as port:
        [outcome] = await run(job(port, n_calls=None, seconds=n_calls / 1000, offers=offers, n_connections=1))
    assert outcome.n_calls == n_calls
    assert outcome.latency_ms is not None
    assert outcome.latency_ms.max >= (n_calls - 1) * latency_s * 1000


@pytest.mark.parametrize(
    ("answer", "closes", "is_stream", "kind"),
    [
        (http("500 Oh\r\nContent-Length: 2", b"no"), False, False, "status_500"),
        (http("429 Slow\r\nTransfer-Encoding: chunked", b"2\r\nno\r\n0\r\n\r\n"), False, True, "status_429"),
        (http("200 OK\r\nContent-Length: 9", b"half"), True, False, "cut"),
        (http("200 OK\r\nTransfer-Encoding: chunked", b"4\r\nhalf\r\n"), True, True, "cut"),
        (http("200 OK\r\nTransfer-Encoding: chunked", b"6\r\ndata: \r\n0\r\n\r\n"), False, True, "no_done"),
        (http("200 OK\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), False, True, "no_done"),
        (http("200 OK\r\nContent-Length: 2", b"four"), False, False, "malformed"),
        (b"SSH-2.0 hello\r\n\r\n", False, False, "malformed"),
    ],
)
async def test_bad_answers_are_errors(answer: bytes, closes: bool, is_stream: bool, kind: str) -> None:
    """Whatever is not a whole, good answer is an error of its kind, and no call."""
    async with answering(answer, closes=closes) as port:
        [outcome] = await run(job(port, is_stream=is_stream))
    assert (outcome.n_calls, outcome.errors) == (0, {kind: 4})
    assert outcome.latency_ms is None


async def test_connection_that_is_closed_is_opened_anew() -> None:
    """A server that closes after each answer, and says so, fails nobody."""
    async with answering(http("200 OK\r\nConnection: close\r\nContent-Length: 2", b"ok"), closes=True) as port:
        [outcome] = await run(job(port))
    assert (outcome.n_calls, outcome.errors) == (4, {})


async def test_nobody_there_is_an_error() -> None:
    """A dead server ends the load in time."""
    [outcome] = await run(job(free_port(), n_calls=None, seconds=0.1))
    assert outcome.n_calls == 0
    assert outcome.errors.keys() == {"connect"}


async def test_answer_that_never_comes_is_a_timeout() -> None:
    """No request hangs for ever, in neither kind of loop."""
    async with answering(b"") as port:
        [closed] = await run(job(port, n_calls=2, timeout_s=0.1))
        offers = (Offer("small", SMALL_BYTES, 10.0),)
        [opened] = await run(job(port, n_calls=None, seconds=0.2, offers=offers, timeout_s=0.1))
    assert closed.errors == {"timeout": 2}
    assert opened.errors == {"timeout": 2}


def test_every_prompt_is_another_one() -> None:
    """No cache can answer: all prompts differ, between generators too; all are as long as asked."""
    makers = [Requests(job(1, is_stream=True), SMALL_BYTES) for _ in range(2)]
    bodies = [json.loads(maker.next().partition(b"\r\n\r\n")[2]) for maker in makers for _ in range(3)]
    prompts = {body["messages"][0]["content"] for body in bodies}
    assert len(prompts) == 6
    assert {len(prompt) for prompt in prompts} == {SMALL_BYTES}
    assert all(body["stream"] is True for body in bodies)


async def test_upstream_speaks_openais_wire() -> None:
    """Plain and stream say the same text, with usage; the stream is 100 chunks and `[DONE]`."""
    body = {"model": "mock-model", "messages": [{"role": "user", "content": "x"}]}
    async with vendor() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        plain = (await client.post("/v1/chat/completions", json=body)).json()
        stream = (await client.post("/v1/chat/completions", json={**body, "stream": True})).text
    *events, done = [event.removeprefix("data: ") for event in stream.strip().split("\n\n")]
    chunks = [json.loads(event) for event in events]
    words = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]]
    assert done == "[DONE]"
    assert len([word for word in words if word]) == len(TEXT) == 100
    assert "".join(words) == plain["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == plain["usage"]
