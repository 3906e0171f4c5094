"""Clients that send or read slowly, or come in numbers: they lose their connection, and nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from gateway import Gateway, running_gateway
from raw_http import Connection, connected
from upstream import answers

HEADER_TIMEOUT_S = 1.0
BODY_TIMEOUT_S = 0.5
WRITE_TIMEOUT_S = 0.5
MAX_CONNECTIONS = 220
N_SLOW = 200


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {
        "LOCAL_MODELS_ENABLED": "false",
        "REQUEST_HEADER_TIMEOUT_S": str(HEADER_TIMEOUT_S),
        "REQUEST_BODY_TIMEOUT_S": str(BODY_TIMEOUT_S),
        "RESPONSE_WRITE_TIMEOUT_S": str(WRITE_TIMEOUT_S),
        "MAX_CONNECTIONS": str(MAX_CONNECTIONS),
    }
    with running_gateway(tmp_path_factory.mktemp("slow"), env) as running:
        yield running


@contextlib.asynccontextmanager
async def many(port: int, n: int) -> AsyncIterator[list[Connection]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(port)) for _ in range(n)]


async def dribble(connection: Connection, data: bytes, every_s: float) -> None:
    """A byte at a time, for ever."""
    while True:
        for byte in data:
            await connection.send(bytes([byte]))
            await asyncio.sleep(every_s)


def resident_mb(gateway: Gateway) -> float:
    status = Path(f"/proc/{gateway.server.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def n_sockets(gateway: Gateway) -> int:
    n = 0
    for fd in Path(f"/proc/{gateway.server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while we look
            n += "socket" in str(fd.readlink())
    return n


async def test_headers_that_dribble_end_in_408(gateway: Gateway) -> None:
    """However steadily: the time is for all of them together."""
    async with connected(gateway.server.port) as connection:
        began_s = time.monotonic()
        sending = asyncio.create_task(dribble(connection, b"GET /v1/models HTTP/1.1\r\nx-a: " + b"a" * 1000, 0.02))
        try:
            answer = await connection.answer()
        finally:
            sending.cancel()
        assert (answer.status, answer.json()["error"]["code"]) == (408, "request_timeout")
        assert "x-should-retry" not in answer.headers
        assert HEADER_TIMEOUT_S <= time.monotonic() - began_s < 3 * HEADER_TIMEOUT_S
        assert await connection.ended() == b""


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n"])
async def test_who_says_nothing_is_closed_without_a_word(gateway: Gateway, data: bytes) -> None:
    """A browser opens connections ahead of need: an answer there would be taken for that of its next request."""
    async with connected(gateway.server.port) as connection:
        await connection.send(data)
        ended = await connection.ended()
        assert ended == b"" or (data and b"408" in ended)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_dribbles_ends_in_408(gateway: Gateway, chunked: bool) -> None:
    """A byte now and then is no progress. The request is one: logged, and with the caller's request id."""
    length = "transfer-encoding: chunked" if chunked else "content-length: 100000"
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: slow-1\r\n"
        f"authorization: Bearer {gateway.key}\r\n{length}\r\n\r\n"
    )
    async with connected(gateway.server.port) as connection:
        await connection.send(head.encode())
        sending = asyncio.create_task(dribble(connection, b"1\r\n \r\n" if chunked else b" " * 10, 0.02))
        try:
            answer = await connection.answer()
        finally:
            sending.cancel()
        assert (answer.status, answer.json()["error"]["code"]) == (408, "request_timeout")
        assert answer.headers["x-request-id"] == "slow-1"
        assert answer.headers["connection"] == "close"
        assert await connection.ended() == b""


async def test_a_long_upload_on_a_slow_line_goes_through(gateway: Gateway) -> None:
    """Four times the time-out in all, and progress within each: no bound on the whole."""
    start = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    start += b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    pieces = [start, *[b"slow but steady\n" * 512] * 8, b"\r\n--b--\r\n"]
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        f"content-type: multipart/form-data; boundary=b\r\ncontent-length: {sum(map(len, pieces))}\r\n\r\n"
    )
    async with connected(gateway.server.port) as connection:
        await connection.send(head.encode())
        for piece in pieces:
            await connection.send(piece)
            await asyncio.sleep(BODY_TIMEOUT_S / 2)
        answer = await connection.answer()
        assert answer.status == 200, answer.body
        assert answer.json()["bytes"] == 16 * 512 * 8


async def test_200_slow_senders_keep_nobody_waiting(gateway: Gateway) -> None:
    """Normal requests are answered at once beside them; they are gone after the time-out, and so is their memory."""
    before_mb, before = resident_mb(gateway), n_sockets(gateway)
    async with many(gateway.server.port, N_SLOW) as slow, httpx.AsyncClient(base_url=gateway.server.url) as client:
        for connection in slow:
            await connection.send(b"GET /v1/models HTTP/1.1\r\nx-a: " + b"a" * 1000)
        durations_s: list[float] = []
        for _ in range(20):
            began_s = time.monotonic()
            answer = await client.get("/v1/models", headers={"authorization": f"Bearer {gateway.key}"})
            assert answer.status_code == 200
            durations_s.append(time.monotonic() - began_s)
        assert sorted(durations_s)[10] < 0.5
        assert resident_mb(gateway) - before_mb < 20
        statuses = {(await connection.answer()).status for connection in slow}
        assert statuses == {408}
    async with asyncio.timeout(10):
        while n_sockets(gateway) > before + 5:  # noqa: ASYNC110  # another process's sockets have no event
            await asyncio.sleep(0.05)


async def test_a_full_house_makes_room_for_who_has_a_request(gateway: Gateway) -> None:
    """More idle connections than there may be: the longest idle go, a probe on a new one is answered."""
    async with many(gateway.server.port, MAX_CONNECTIONS + 20) as idle:
        async with httpx.AsyncClient(base_url=gateway.server.url) as client:
            for _ in range(3):
                assert (await client.get("/health/liveness")).status_code == 200
        assert await idle[0].ended() == b""
        assert n_sockets(gateway) < MAX_CONNECTIONS + 60


async def test_bodies_that_are_not_wanted_hold_nothing(gateway: Gateway) -> None:
    """Without a credential: refused before the body, and closed although the client goes on sending."""
    async with many(gateway.server.port, 50) as slow:
        for connection in slow:
            await connection.send(b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 500000000\r\n\r\nx")
        assert {(await connection.answer()).status for connection in slow} == {401}
        sending = [asyncio.create_task(dribble(connection, b"x", 0.05)) for connection in slow]
        try:
            for connection in slow:
                await connection.ended()
        finally:
            for task in sending:
                task.cancel()


async def test_who_does_not_read_is_cut_off_and_the_vendor_with_him(gateway: Gateway) -> None:
    """A stream longer than the sockets' buffers, which nobody reads: it does not pile up, and the target is left."""
    gateway.upstream.on("gpt", answers("x" * 40_000_000, chunks=4_000, usage=None))
    body = b'{"model":"chat","stream":true,"messages":[{"role":"user","content":"x"}]}'
    head = "POST /v1/chat/completions HTTP/1.1\r\nx-request-id: stalled-1\r\n"
    head += f"authorization: Bearer {gateway.key}\r\n"
    assert gateway.ask("free").status_code == 200  # the first call loads litellm: 190 MB
    before_mb = resident_mb(gateway)
    async with connected(gateway.server.port) as connection:
        await connection.send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a Transport of both directions
        await asyncio.to_thread(aborted, gateway, "stalled-1")
    assert resident_mb(gateway) - before_mb < 50


def aborted(gateway: Gateway, request_id: str) -> None:
    """Wait until the log says so. The call to the target is cancelled and its tokens are counted."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in gateway.server.log.read_text().splitlines() if request_id in line]
        outcomes = [line["llm"]["outcome"] for line in lines if "llm" in line]
        if outcomes and any(line["msg"] == "request aborted" for line in lines):
            assert outcomes == ["cancelled"]
            return
        time.sleep(0.05)
    raise AssertionError("the stream went on")
