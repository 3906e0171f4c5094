"""Streams under strain: readers that stall, clients that leave, vendors that die; memory, others and accounts hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import Gateway
from nasty_gateway import TRANSPORTS, Seen, metric, running_nasty
from nasty_upstream import PeakMemory, chunk, head
from raw_http import Connection, connected
from upstream import answers, dies, dies_after_head, hangs
from upstream_server import Exchange

N_STALLED = {"auto": 200, "litellm": 60}
"""Through litellm each takes 50 ms of CPU to begin: with 200 a slow machine does nothing else for minutes."""

MAX_STALLED_MB = {"auto": 300, "litellm": 1_200}
"""Of 200 stalled readers. asyncio reads 256 KiB at once: five of them each, from the vendor's socket to the client's,
and what is kept of an answer to be counted. Through litellm OpenAI's SDK makes lines and objects of each such read,
4 MB a stream (measured): still bounded, and not ours."""

MAX_ONE_STALLED_MB = 20
"""One of them, with room for what a server grows by anyway."""

CALL_S = 1.0
"""For one small call beside them; alone it takes 5 ms. Two cores are shared by server, vendor and 200 clients."""

N_BEGINNING = 5
KEPT_BYTES = 64 << 10
"""By the system, of a stream that is not read: megabytes of it would only be work, through litellm minutes of it."""

LEAVING_S = 1.0
MESSAGES = [{"role": "user", "content": "ping"}]


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def running(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"RESPONSE_WRITE_TIMEOUT_S": "60"}  # stalled readers stay for as long as a test looks at them
    with running_nasty(tmp_path_factory.mktemp("faults"), transport, env) as started:
        for stream in (False, True):  # the first calls load litellm, and more of it
            assert started.ask("free", stream=stream).status_code == 200
        yield started


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    running.upstream.reset()
    return running


class Flood:
    """A vendor's stream without end, for as long as it is read. `n_sent`: bytes, of all its streams together."""

    def __init__(self, piece: str = "some words " * 900) -> None:
        self.n_sent = 0
        self._wire = f"data: {chunk({'content': piece})}\n\n".encode()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(head(kind="text/event-stream"))
        with contextlib.suppress(ConnectionError):
            while True:
                await exchange.send(self._wire)
                self.n_sent += len(self._wire)
        await exchange.upstream.at_gate()  # until the server has seen it, too, and notes when

    async def stalls(self, gateway: Gateway) -> None:
        """Wait until nothing more is taken, and what was taken has been worked on."""
        async with asyncio.timeout(60):
            n_sent, busy_s = -1, 0.0
            while n_sent != self.n_sent or not n_sent or busy_s + BUSY_S < busy_s_of(gateway):
                n_sent, busy_s = self.n_sent, busy_s_of(gateway)
                await asyncio.sleep(0.5)  # what is waited for is that nothing happens


BUSY_S = 0.1
"""Of the CPU in half a second: what a server does that has nothing to do is less."""


def busy_s_of(gateway: Gateway) -> float:
    """CPU time of the server's process until now: user and system, proc(5)."""
    fields = Path(f"/proc/{gateway.server.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request_of(gateway: Gateway, model: str = "chat", **fields: object) -> bytes:
    body = json.dumps({"model": model, "messages": MESSAGES, "stream": True, **fields}).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: x", f"authorization: Bearer {gateway.key}"]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


@contextlib.asynccontextmanager
async def stalled(gateway: Gateway, n: int) -> AsyncIterator[list[Connection]]:
    """Clients that ask for a stream and do not read it. A few begin at a time: a slow machine would time out."""
    n_before, readers = len(gateway.upstream.requests), []
    async with contextlib.AsyncExitStack() as stack:
        for n_begun in range(1, n + 1):
            reader = await stack.enter_async_context(connected(gateway.server.port, n_kept_bytes=KEPT_BYTES))
            reader.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a Transport of both directions
            await reader.send(request_of(gateway))
            readers.append(reader)
            await until(lambda n=n_begun: len(gateway.upstream.requests) > n_before + n - N_BEGINNING, 30)
        yield readers


async def until(seen: Any, timeout_s: float = 10.0) -> None:
    """Wait for what another process does: there is no event for it."""
    async with asyncio.timeout(timeout_s):
        while not seen():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def read(gateway: Gateway, model: str, *, leave_after: int | None = None, **fields: object) -> Seen:
    """A stream, up to its end or to so many events."""
    headers = {"authorization": f"Bearer {gateway.key}"}
    body = {"model": model, "messages": MESSAGES, "stream": True, **fields}
    payloads: list[str] = []
    async with (
        httpx.AsyncClient(base_url=gateway.server.url, headers=headers, timeout=30) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line:
                payloads.append(line.removeprefix("data: "))
            if len(payloads) == leave_after:
                break
    return Seen(payloads)


async def test_who_does_not_read_grows_nothing(gateway: Gateway) -> None:
    """The vendor is read no faster than the client reads: after the buffers of the sockets it is left waiting."""
    flood, memory = Flood(), PeakMemory(gateway.server)
    gateway.upstream.on("gpt", flood)
    async with stalled(gateway, 1):
        await flood.stalls(gateway)
        assert memory.grown_mb < MAX_ONE_STALLED_MB
        assert not gateway.upstream.requests[0].left_at_s
    await asyncio.to_thread(gateway.upstream.wait_until, lambda: gateway.upstream.requests[0].left_at_s)


async def test_200_stalled_readers_slow_nobody(gateway: Gateway, transport: str) -> None:
    """Another client's calls and streams go on beside them, and memory is bounded; then all are gone."""
    flood, memory = Flood(), PeakMemory(gateway.server)
    gateway.upstream.on("gpt", flood)
    gateway.upstream.on("unpriced", answers("Hello world"))
    async with stalled(gateway, N_STALLED[transport]):
        await until(lambda: len(gateway.upstream.requests) >= N_STALLED[transport], 120)
        assert len(gateway.upstream.to("gpt")) == N_STALLED[transport]
        await flood.stalls(gateway)
        assert await slowest_call_s(gateway) < CALL_S
        assert memory.grown_mb < MAX_STALLED_MB[transport]
    assert await slowest_call_s(gateway) < CALL_S  # while all of them are cleared away and accounted
    await until(lambda: all(one.left_at_s for one in gateway.upstream.to("gpt")), 120)


async def slowest_call_s(gateway: Gateway) -> float:
    """Of 20 small calls of another client, whole and streamed, one after the other."""
    headers = {"authorization": f"Bearer {gateway.key}"}
    took_s: list[float] = []
    async with httpx.AsyncClient(base_url=gateway.server.url, headers=headers, timeout=30) as client:
        for stream in [False, True] * 10:
            began_s = time.monotonic()
            body = {"model": "free", "messages": MESSAGES, "stream": stream}
            response = await client.post("/v1/chat/completions", json=body)
            took_s.append(time.monotonic() - began_s)
            assert response.status_code == 200
    return max(took_s)


async def test_a_slow_reader_gets_every_byte(gateway: Gateway) -> None:
    """Back-pressure loses nothing: 20 MB, read in fits and starts."""
    gateway.upstream.on("gpt", answers("0123456789" * 2_000_000, chunks=2_000))
    async with connected(gateway.server.port) as client:
        await client.send(request_of(gateway))
        transport: Any = client.writer.transport
        for _ in range(5):
            transport.pause_reading()
            await asyncio.sleep(0.1)  # being slow is what is tested
            transport.resume_reading()
            await client.reader.read(100_000)
        n_x, rest = 0, b""
        async with asyncio.timeout(30):
            while not rest.endswith(b"0\r\n\r\n"):
                piece = await client.reader.read(1_000_000)
                assert piece, "the connection ended before the stream"
                n_x += piece.count(b"0123456789")
                rest = (rest + piece)[-100:]
        assert b"[DONE]" in rest
        assert n_x > 1_900_000


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_closes_the_vendors_connection_and_is_counted(gateway: Gateway, stream: bool) -> None:
    """Within a second, before the first token: an outcome `cancelled`, and no tokens that nobody saw."""
    gateway.upstream.on("gpt", hangs)
    before = metric(gateway, "llm_calls_total", target="openai/gpt", outcome="cancelled")
    async with connected(gateway.server.port) as client:
        await client.send(request_of(gateway, stream=stream))
        await asyncio.to_thread(gateway.upstream.wait_until, lambda: gateway.upstream.requests)
    left_s = time.monotonic()
    await asyncio.to_thread(gateway.upstream.wait_until, lambda: gateway.upstream.requests[0].left_at_s)
    assert (gateway.upstream.requests[0].left_at_s or 0) - left_s < LEAVING_S
    await until(lambda: metric(gateway, "llm_calls_total", target="openai/gpt", outcome="cancelled") == before + 1)


async def test_leaving_a_stream_accounts_the_tokens_seen(gateway: Gateway) -> None:
    """No usage came: what went in and what was relayed is counted by us, and what was not relayed is not.

    A target of its own: what others left may still be counted."""
    words = [f" word{number}" for number in range(200)]
    gateway.upstream.on("spare", answers("".join(words), chunks=100, hold_after=50))

    def tokens(kind: str) -> float:
        return metric(gateway, "llm_tokens_total", target="openai/spare", kind=kind)

    def cost() -> float:
        return metric(gateway, "llm_cost_usd_total", target="openai/spare")

    before = {"input": tokens("input"), "output": tokens("output"), "cost": cost()}
    cancelled = metric(gateway, "llm_calls_total", target="openai/spare", outcome="cancelled")
    seen = await read(gateway, "spare", leave_after=41)  # the role and 40 pieces
    left_s = time.monotonic()
    await asyncio.to_thread(gateway.upstream.wait_until, lambda: gateway.upstream.requests[0].left_at_s)
    assert (gateway.upstream.requests[0].left_at_s or 0) - left_s < LEAVING_S
    await until(lambda: metric(gateway, "llm_calls_total", target="openai/spare", outcome="cancelled") == cancelled + 1)
    await until(lambda: tokens("output") > before["output"])
    output = tokens("output") - before["output"]
    assert len(seen.text) / 8 < output < len("".join(words)) / 2
    assert tokens("input") > before["input"]
    assert cost() > before["cost"]


@pytest.mark.parametrize("script", [dies, dies_after_head, answers("wrong", die_after=0)], ids=["0", "head", "role"])
async def test_dying_before_the_first_token_is_silent(gateway: Gateway, script: Any) -> None:
    """The next target answers, and the failure is counted as the first one's."""
    gateway.upstream.on("doomed-1", script)
    gateway.upstream.on("doomed-2", answers("right"))
    before = metric(gateway, "llm_calls_total", target="openai/doomed-1", outcome="upstream_unavailable")
    seen = await read(gateway, "doomed")
    assert (seen.text, seen.roles, seen.errors, seen.n_done) == ("right", ["assistant"], [], 1)
    after = metric(gateway, "llm_calls_total", target="openai/doomed-1", outcome="upstream_unavailable")
    assert after == before + 1


@pytest.mark.parametrize("died_after", [1, 2, 3])
async def test_dying_after_it_is_one_error_event(gateway: Gateway, died_after: int) -> None:
    """However many tokens there were: no end that looks right, no second text, and the tokens seen are accounted."""
    gateway.upstream.on("doomed-1", answers("one two three four", chunks=4, die_after=died_after, delay_s=0.02))
    before = metric(gateway, "llm_tokens_total", target="openai/doomed-1", kind="output")
    seen = await read(gateway, "doomed")
    assert "one two three four".startswith(seen.text)
    assert seen.text
    assert (len(seen.errors), seen.n_done, seen.finishes) == (1, 0, [])
    assert "error" in seen.bodies[-1]
    assert not gateway.upstream.to("doomed-2")
    assert metric(gateway, "llm_tokens_total", target="openai/doomed-1", kind="output") > before


async def test_many_streams_at_once_keep_their_texts_apart(gateway: Gateway) -> None:
    """100 of them, torn and mixed on the wire: each client gets its own letters alone, whole."""

    async def echoes(exchange: Exchange) -> None:
        text = exchange.received.body["messages"][-1]["content"]
        await exchange.head(200, {"content-type": "text/event-stream"})
        for letter in text * 20:
            await exchange.event(json.loads(chunk({"content": letter})))
            await asyncio.sleep(0)
        await exchange.event(json.loads(chunk({}, "stop")))
        await exchange.event("[DONE]")
        exchange.received.answered = True

    gateway.upstream.on("gpt", echoes)
    texts = [f"«{number}»" for number in range(100)]
    async with asyncio.timeout(60):
        seen = await asyncio.gather(
            *(read(gateway, "chat", messages=[{"role": "user", "content": text}]) for text in texts)
        )
    assert [one.text for one in seen] == [text * 20 for text in texts]
    assert all(one.is_done and not one.errors for one in seen)
