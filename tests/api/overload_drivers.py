"""What it takes to be answered that a server is full: drivers for `error_drivers`."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from raw_http import Answer, connected, exchange
from upstream import hangs

if TYPE_CHECKING:
    from api.error_drivers import Faulty

MAX_CONCURRENT_REQUESTS = 8
MAX_CONNECTIONS = MAX_CONCURRENT_REQUESTS + 1

CHAT = b'{"model": "kind", "messages": [{"role": "user", "content": "x"}]}'


def full_house(to: Faulty) -> Answer:
    """Every connection is at work: an upload that is under way, and calls that the vendor lets wait."""
    to.upstream.on("busy", hangs)
    body = b'{"model":"busy","messages":[{"role":"user","content":"x"}]}'
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {to.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )

    upload = (
        f"POST /v1/files HTTP/1.1\r\nauthorization: Bearer {to.key}\r\ncontent-length: 100\r\n"
        "content-type: multipart/form-data; boundary=x\r\nexpect: 100-continue\r\n\r\n"
    )

    async def fill() -> Answer:
        async with contextlib.AsyncExitStack() as stack:
            one = await stack.enter_async_context(connected(to.server.port))
            await one.send(upload.encode())
            assert (await one.answer()).status == 100
            for _ in range(MAX_CONCURRENT_REQUESTS):
                one = await stack.enter_async_context(connected(to.server.port))
                await one.send(head.encode() + body)
            await asyncio.to_thread(
                to.upstream.wait_until, lambda: len(to.upstream.to("busy")) == MAX_CONCURRENT_REQUESTS
            )
            return await exchange(to.server.port, b"")

    return asyncio.run(fill())


def overloaded(to: Faulty) -> Answer:
    """All places of the server are taken by calls that the vendor lets wait."""
    to.upstream.on("kind", hangs)
    n_before = len(to.upstream.to("kind"))
    with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
        for _ in range(MAX_CONCURRENT_REQUESTS):
            pool.submit(to.http, "POST", "/v1/chat/completions", content=CHAT)
        to.upstream.wait_until(lambda: len(to.upstream.to("kind")) == n_before + MAX_CONCURRENT_REQUESTS)
        answer = to.http("POST", "/v1/chat/completions", content=CHAT)
        to.upstream.release()
    to.upstream.reset()
    return answer
