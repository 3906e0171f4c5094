"""A vendor that costs next to nothing: OpenAI's chat API on a raw asyncio protocol. It prints its port.

    PYTHONPATH=tests .venv/bin/python -m bench.gateway.upstream [port]

The answer is always the same 100 tokens, plain or as 100 chunks, each chunk in a write of its own, as vendors send
them. The usage chunk comes unasked, so that no gateway has to count tokens itself. MOCK_LATENCY_S: wait before it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from typing import cast

import uvloop

from bench.gateway.cases import MODEL, N_CHUNKS

STREAM = re.compile(rb'"stream"\s*:\s*true')
"""The prompts of the bench hold no quotation marks, so this finds the field alone."""

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
TEXT = [f"{WORDS[n % len(WORDS)]} " for n in range(N_CHUNKS)]
USAGE = {"prompt_tokens": 20, "completion_tokens": N_CHUNKS, "total_tokens": 20 + N_CHUNKS}


def _object(kind: str, **fields: object) -> bytes:
    common = {"id": "chatcmpl-mock", "object": kind, "created": 1_700_000_000, "model": MODEL}
    return json.dumps({**common, **fields, "system_fingerprint": "fp_mock"}).encode()


def _plain() -> bytes:
    message = {"role": "assistant", "content": "".join(TEXT)}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    body = _object("chat.completion", choices=[choice], usage=USAGE)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _sse(data: bytes) -> bytes:
    """One event in one chunk of the transfer encoding."""
    event = b"data: %b\n\n" % data
    return b"%x\r\n%b\r\n" % (len(event), event)


def _delta(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _sse(_object("chat.completion.chunk", choices=[choice]))


PLAIN = _plain()
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WRITES = (
    STREAM_HEAD + _delta({"role": "assistant", "content": ""}),
    *(_delta({"content": word}) for word in TEXT),
    _delta({}, "stop"),
    _sse(_object("chat.completion.chunk", choices=[], usage=USAGE)) + _sse(b"[DONE]") + b"0\r\n\r\n",
)
LENGTH = b"content-length:"


class Vendor(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()
        self._wanted = 0
        """Length of the request being read, head and body; 0 while its head is not whole."""
        self._body_at = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        self._read += data
        while self._read:
            if not self._wanted and not self._head():
                return
            if len(self._read) < self._wanted:
                return
            is_stream = STREAM.search(self._read, self._body_at, self._wanted) is not None
            del self._read[: self._wanted]
            self._wanted = 0
            answer = self._stream if is_stream else self._plain
            if self._latency_s:
                self._loop.call_later(self._latency_s, answer)
            else:
                answer()

    def _head(self) -> bool:
        end = self._read.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._read[:end]).lower()
        at = head.find(LENGTH)
        length = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        self._body_at = end + 4
        self._wanted = self._body_at + length
        return True

    def _plain(self) -> None:
        self._transport.write(PLAIN)

    def _stream(self, number: int = 0) -> None:
        """One write in each turn of the loop, or the kernel would see them as one."""
        if self._transport.is_closing():
            return
        self._transport.write(WRITES[number])
        if number + 1 < len(WRITES):
            self._loop.call_soon(self._stream, number + 1)


async def serve(port: int) -> None:
    latency_s = float(os.environ.get("MOCK_LATENCY_S", "0"))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Vendor(latency_s), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
