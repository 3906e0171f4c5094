"""The HTTP client that litellm hands to OpenAI's SDK, made as bounded as our own. Imported with litellm alone.

By itself it follows redirects with our key, and unpacks whatever a target sends.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpx

from app.llm.transports.vendor_http import MAX_ANSWER_BYTES, MAX_STREAM_BYTES
from app.llm.transports.whole_events import MAX_EVENT_BYTES

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class _Bounded(httpx.AsyncByteStream):
    """A response's bytes, unpacked, until they are too many. Raises: httpx.ReadError then, or where they are torn."""

    def __init__(self, inner: httpx.AsyncByteStream, encoding: str, *, is_stream: bool) -> None:
        self._inner = inner
        self._is_stream = is_stream
        self._unpacker = zlib.decompressobj(_WINDOW_BITS[encoding]) if encoding in _WINDOW_BITS else None
        self._left = MAX_STREAM_BYTES if is_stream else MAX_ANSWER_BYTES
        self._n_line_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._inner:
            yield self._taken(self._unpacked(piece))
            while self._unpacker is not None and self._unpacker.unconsumed_tail:
                yield self._taken(self._unpacked(self._unpacker.unconsumed_tail))

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _unpacked(self, piece: bytes) -> bytes:
        if self._unpacker is None:
            return piece
        try:
            return self._unpacker.decompress(piece, 1 << 20)
        except zlib.error:
            raise httpx.ReadError("the body is not what its content-encoding says") from None

    def _taken(self, piece: bytes) -> bytes:
        self._left -= len(piece)
        newline = piece.rfind(b"\n")
        self._n_line_bytes = self._n_line_bytes + len(piece) if newline < 0 else len(piece) - newline
        if self._left < 0 or (self._is_stream and self._n_line_bytes > MAX_EVENT_BYTES):
            raise httpx.ReadError("the answer has no end")
        return piece


async def _bound(response: httpx.Response) -> None:
    is_stream = "text/event-stream" in response.headers.get("content-type", "")
    encoding = response.headers.pop("content-encoding", "identity").lower()
    if isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _Bounded(response.stream, encoding, is_stream=is_stream)


def bound(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """The same client, bounded: litellm's own, which is faster than a plain one of httpx."""
    client.event_hooks = {"response": [_bound]}
    client.follow_redirects = False
    client.headers["accept-encoding"] = "identity"
    return client
