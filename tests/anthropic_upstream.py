"""Scripts in Anthropic's wire for `upstream.Upstream`'s server: what its API answers, whole or as events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from upstream_server import Exchange, Script

USAGE = {"input_tokens": 7, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 3}

Block = Mapping[str, Any]


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def tool_use(call_id: str, name: str, **given: object) -> Block:
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}


def says_blocks(
    *blocks: Block,
    stop_reason: str = "end_turn",
    hold_after: int | None = None,
    die_after: int | None = None,
    delay_s: float = 0.0,
) -> Script:
    """A message of these blocks. In a stream it waits at the gate, or dies, after so many deltas; `delay_s` before each
    lets them be read first, for a reset throws away what is still on its way."""

    async def script(exchange: Exchange) -> None:
        body = exchange.received.body
        message = {
            "id": "msg_upstream",
            "type": "message",
            "role": "assistant",
            "model": f"{body['model']}-20260101",
            "content": list(blocks),
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": USAGE,
        }
        if not body.get("stream"):
            await exchange.json(200, message)
            return
        await exchange.head(200, {"content-type": "text/event-stream; charset=utf-8"})
        started = {**message, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
        await _send(exchange, "message_start", message=started)
        await _send(exchange, "ping")
        n_deltas = 0
        for index, block in enumerate(blocks):
            begun, deltas = _streamed(block)
            await _send(exchange, "content_block_start", index=index, content_block=begun)
            for delta in deltas:
                if n_deltas == die_after:
                    await asyncio.sleep(delay_s)
                    raise ConnectionResetError
                if n_deltas == hold_after:
                    await exchange.upstream.at_gate()
                n_deltas += 1
                await asyncio.sleep(delay_s)
                await _send(exchange, "content_block_delta", index=index, delta=delta)
            await _send(exchange, "content_block_stop", index=index)
        counted = {"output_tokens": USAGE["output_tokens"]}
        await _send(exchange, "message_delta", delta={"stop_reason": stop_reason, "stop_sequence": None}, usage=counted)
        await _send(exchange, "message_stop")
        exchange.received.answered = True

    return script


def _streamed(block: Block) -> tuple[Block, Sequence[Block]]:
    """How a block begins, and its pieces of four characters."""
    if block["type"] == "text":
        pieces = [block["text"][at : at + 4] for at in range(0, len(block["text"]), 4)]
        return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
    whole = json.dumps(block["input"])
    pieces = [whole[at : at + 4] for at in range(0, len(whole), 4)]
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


async def _send(exchange: Exchange, name: str, **fields: object) -> None:
    data = json.dumps({"type": name, **fields}, separators=(",", ":"), ensure_ascii=False)
    await exchange.send(f"event: {name}\ndata: {data}\n\n".encode())


def refuses(status: int, kind: str, message: str = "no", **headers: str) -> Script:
    """An error in Anthropic's shape. Underscores in header names become hyphens."""

    async def script(exchange: Exchange) -> None:
        error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_upstream"}
        await exchange.json(status, error, {name.replace("_", "-"): value for name, value in headers.items()})

    return script


def breaks_with(kind: str, message: str = "no", *, words: str = "") -> Script:
    """A stream that says `words`, then an error event."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream; charset=utf-8"})
        message_ = {"id": "msg_upstream", "type": "message", "role": "assistant", "model": "m", "content": []}
        await _send(exchange, "message_start", message={**message_, "usage": USAGE})
        if words:
            await _send(exchange, "content_block_start", index=0, content_block=text(""))
            await _send(exchange, "content_block_delta", index=0, delta={"type": "text_delta", "text": words})
        await _send(exchange, "error", error={"type": kind, "message": message})
        exchange.received.answered = True

    return script


def counts(input_tokens: int) -> Script:
    """`count_tokens`."""

    async def script(exchange: Exchange) -> None:
        await exchange.json(200, {"input_tokens": input_tokens})

    return script
