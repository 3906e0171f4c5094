"""A scriptable OpenAI-compatible vendor on a real socket, in a thread of its own: for sync and async tests alike.

What it does is chosen by the model name of each request, so that one upstream plays a whole chain of targets:

    with running_upstream() as upstream:
        upstream.on("dead", fails(503))
        upstream.on("good", answers("Hello there", usage=(10, 5)))
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from upstream_server import Exchange, Script, Upstream

API_KEY = "upstream-test-credential"


def _usage(counted: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": counted[0], "completion_tokens": counted[1], "total_tokens": sum(counted)}


def answers(
    text: str = "pong",
    *,
    usage: tuple[int, int] | None = (7, 3),
    chunks: int = 4,
    delay_s: float = 0.0,
    hold_after: int | None = None,
    die_after: int | None = None,
    message: Mapping[str, object] | None = None,
    n: int = 1,
    finish: str = "stop",
) -> Script:
    """Answers whole or streamed, as the request asks.

    `usage` (input, output tokens; None: says nothing of it). `chunks`: content chunks of a stream, `delay_s` before
    each; after `hold_after` of them it waits at the gate, after `die_after` the connection is cut (0: before the first,
    after the chunk that holds only the role). `message`: more fields of the message, such as `tool_calls`.
    `finish`: its `finish_reason`.
    """

    async def script(exchange: Exchange) -> None:
        body = exchange.received.body
        envelope = {"id": "chatcmpl-upstream", "created": 1, "model": f"{body['model']}-2026-01-01"}
        if not body.get("stream"):
            if hold_after is not None:
                await exchange.upstream.at_gate()
            answer = {"role": "assistant", "content": text, **(message or {})}
            choices = [{"index": i, "message": answer, "finish_reason": finish} for i in range(n)]
            counted = {} if usage is None else {"usage": _usage(usage)}
            await exchange.json(200, {**envelope, "object": "chat.completion", "choices": choices, **counted})
            return
        await exchange.head(200, {"content-type": "text/event-stream"})
        envelope["object"] = "chat.completion.chunk"
        wants_usage = (body.get("stream_options") or {}).get("include_usage") and usage is not None
        null = {"usage": None} if wants_usage else {}

        async def send(delta: Mapping[str, object], finish: str | None = None) -> None:
            choices = [{"index": i, "delta": delta, "finish_reason": finish} for i in range(n)]
            await exchange.event({**envelope, "choices": choices, **null})

        await send({"role": "assistant", "content": ""})
        size = max(1, math.ceil(len(text) / chunks))
        for number, piece in enumerate([text[at : at + size] for at in range(0, len(text), size)]):
            if number == die_after:
                raise ConnectionResetError
            if number == hold_after:
                await exchange.upstream.at_gate()
            await asyncio.sleep(delay_s)
            await send({"content": piece})
        if message:
            await send(message)
        await send({}, finish)
        if wants_usage:
            assert usage is not None
            await exchange.event({**envelope, "choices": [], "usage": _usage(usage)})
        await exchange.event("[DONE]")
        exchange.received.answered = True

    return script


def fails(status: int, message: str = "no", *, code: str | None = None, **headers: str) -> Script:
    """An error in OpenAI's shape. Underscores in header names become hyphens."""

    async def script(exchange: Exchange) -> None:
        error = {"error": {"message": message, "type": "some_error", "param": None, "code": code}}
        await exchange.json(status, error, {k.replace("_", "-"): v for k, v in headers.items()})

    return script


def says(text: str, *, status: int = 200, kind: str = "application/json") -> Script:
    """Any bytes at all."""

    async def script(exchange: Exchange) -> None:
        await exchange.text(status, text, kind)

    return script


async def hangs(exchange: Exchange) -> None:
    """Takes the request and says nothing until the gate opens, or the caller leaves."""
    await exchange.upstream.at_gate()


async def dies(exchange: Exchange) -> None:
    """Takes the request and cuts the connection before a single byte."""
    raise ConnectionResetError


async def dies_after_head(exchange: Exchange) -> None:
    """Begins a stream and cuts the connection before its first event."""
    await exchange.head(200, {"content-type": "text/event-stream"})
    raise ConnectionResetError


def trickles(text: str, delay_s: float = 0.005) -> Script:
    """A stream whose bytes come one at a time: events arrive torn into pieces. `text` is the raw body."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        for byte in text.encode():
            await exchange.send(bytes([byte]))
            await asyncio.sleep(delay_s)
        exchange.received.answered = True

    return script


def embeds(dimensions: int = 3, *, usage: tuple[int, int] | None = (5, 0), shuffled: bool = False) -> Script:
    """Vectors whose first number is the length of the text; `shuffled`: not in the order of the input."""

    async def script(exchange: Exchange) -> None:
        texts = exchange.received.body["input"]
        size = exchange.received.body.get("dimensions") or dimensions
        data = [
            {"object": "embedding", "index": i, "embedding": [float(len(text)), *[0.5] * (size - 1)]}
            for i, text in enumerate(texts)
        ]
        if shuffled:
            data.reverse()
        body = {"object": "list", "data": data, "model": exchange.received.body["model"]}
        await exchange.json(200, body if usage is None else {**body, "usage": _usage(usage)})

    return script


@contextmanager
def unanswered_url() -> Iterator[str]:
    """An `api_base` whose host answers nothing, not even that it refuses: a full backlog, where Linux drops the SYN."""
    with socket.socket() as listening, ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def refused_url() -> str:
    """An `api_base` where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    upstream = Upstream(answers("pong"))
    upstream.start()
    try:
        yield upstream
    finally:
        upstream.stop()
