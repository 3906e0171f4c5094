"""Vendors that misbehave, as scripts for the upstream: they write bytes themselves, heads and framing included."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from server import RunningServer
from upstream_server import Exchange, Script

MAX_SENT_BYTES = 400_000_000
"""Of an endless answer. Who has read so much of it has refused nothing, and the machine's memory is needed."""

PIECE = b" " * 65_536
"""JSON may begin with any number of spaces, so nothing is wrong with an endless answer but its length."""

TEXT = "Grüße aus Köln: 🎉 ☃ — tschüß"
"""Letters of one, two, three and four bytes, so that a tear within one of them shows."""

HTML = "<!doctype html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def head(status: int = 200, kind: str = "application/json", **headers: str) -> bytes:
    """Underscores in header names become hyphens. Without a length the body ends with the connection."""
    given = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in given.items()), "connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()


def raw(*pieces: bytes, cut: bool = False, pause_s: float = 0.0) -> Script:
    """These bytes, one after the other, `pause_s` between them so that each is a packet of its own.

    `cut`: the connection is reset behind them, not closed.
    """

    async def script(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.send(piece)
            if pause_s:
                await asyncio.sleep(pause_s)
        if cut:
            await asyncio.sleep(CUT_AFTER_S)
            raise ConnectionResetError
        exchange.received.answered = True

    return script


CUT_AFTER_S = 0.1
"""A reset throws away what the other side has not read yet: it is given the time."""


def completion(text: str = TEXT, **more: object) -> bytes:
    """The JSON of a whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = {"id": "chatcmpl-nasty", "object": "chat.completion", "created": 1, "model": "gpt"}
    return json.dumps({**body, "choices": [choice], "usage": usage, **more}, ensure_ascii=False).encode()


def chunk(delta: object, finish: str | None = None, **more: object) -> str:
    """The JSON of one chunk, as most vendors write it: without spaces, letters as they are."""
    body = {"id": "chatcmpl-nasty", "object": "chat.completion.chunk", "created": 1, "model": "gpt-2026"}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return json.dumps({**body, "choices": choices, **more}, ensure_ascii=False, separators=(",", ":"))


def said(text: str = TEXT, *, n: int = 6, finish: str | None = "stop") -> list[str]:
    """The chunks of an answer: its role, `n` pieces of its text, and `finish`, unless that is None."""
    size = -(-len(text) // n)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    chunks = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces)]
    return [*chunks, chunk({}, finish)] if finish else chunks


def sse(payloads: Iterable[str], *, end: str = "\n", done: bool = True) -> bytes:
    """Events as they stand on the wire. `end`: of each line."""
    lines = [f"data: {payload}{end}{end}" for payload in (*payloads, *(["[DONE]"] if done else []))]
    return "".join(lines).encode()


def streams(body: bytes, *, size: int | None = None, cut: bool = False, kind: str = "text/event-stream") -> Script:
    """A stream's raw body, in packets of `size` bytes (None: one)."""
    pieces = [body] if size is None else [body[at : at + size] for at in range(0, len(body), size)]
    return raw(head(kind=kind), *pieces, cut=cut, pause_s=0.0 if size is None else PACKET_S)


PACKET_S = 0.001
"""Between two packets of one stream: long enough that the other side reads the first one alone, most of the time."""


def _odd_streams() -> Iterator[tuple[str, Script]]:
    plain = sse(said())
    yield "split inside a character", streams(plain, size=7)
    yield "one byte at a time", streams(sse(said(n=2)), size=1)
    yield "all in one packet", raw(head(kind="text/event-stream") + plain)
    yield "CRLF", streams(sse(said(), end="\r\n"))
    yield "CRLF, one byte at a time", streams(sse(said(n=2), end="\r\n"), size=1)
    yield "comments", streams(b": ping\n\n" + plain.replace(b"\n\n", b"\n\n: ping\n\n:\n\n"))
    yield "comments within events", streams(plain.replace(b"data: ", b": ping\ndata: "))
    yield "names, ids and retries", streams(plain.replace(b"data: ", b"event: message\nid: 7\nretry: 10\ndata: "))
    yield "no space behind the colon", streams(plain.replace(b"data: ", b"data:"))
    yield "one chunk over several lines", streams(plain.replace(b',"choices"', b'\ndata: ,"choices"'))
    yield "no blank line at the end", streams(plain.rstrip(b"\n"))
    yield "no [DONE]", streams(sse(said(), done=False))
    yield "spaces in the JSON", streams(sse(json.dumps(json.loads(one)) for one in said()))
    yield "letters as escapes", streams(sse(json.dumps(json.loads(one), ensure_ascii=True) for one in said()))
    yield "a chunk without choices first", streams(sse([_choiceless(), *said()]))
    yield "usage of null in every chunk", streams(sse(f'{one[:-1]},"usage":null}}' for one in said()))
    yield "a reset behind [DONE]", streams(plain, cut=True)
    yield "more behind [DONE]", streams(plain + sse(said("never shown")))
    yield "called JSON", streams(plain, kind="application/json")
    yield (
        "chunked, torn anywhere",
        raw(head(kind="text/event-stream", transfer_encoding="chunked"), *_chunked(plain, 5), pause_s=PACKET_S),
    )


def _choiceless() -> str:
    """What Azure begins with: its filter's word on the prompt."""
    body = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []}
    return json.dumps(body)


def _chunked(body: bytes, size: int) -> list[bytes]:
    """HTTP's own chunks."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces] + [b"0\r\n\r\n"]


ODD_STREAMS = dict(_odd_streams())
"""Streams of `TEXT` that are unusual and right: each is a whole answer."""


def _no_answers() -> Iterator[tuple[str, Script]]:
    whole = completion()
    half = whole[: len(whole) // 2]
    error = b'{"error": {"message": "the model is overloaded", "type": "server_error", "code": null}}'
    yield "HTML with 200", raw(head(kind="text/html", content_length=str(len(HTML))), HTML.encode())
    yield "HTML with 502", raw(head(502, kind="text/html", content_length=str(len(HTML))), HTML.encode())
    yield "HTML that is called JSON", raw(head(content_length=str(len(HTML))), HTML.encode())
    yield "half JSON of the promised length", raw(head(content_length=str(len(half))), half)
    yield "half JSON, then closed", raw(head(content_length=str(len(whole))), half)
    yield "half JSON, then reset", raw(head(content_length=str(len(whole))), half, cut=True)
    yield "half a chunked answer", raw(head(transfer_encoding="chunked"), *_chunked(whole, 50)[:2])
    yield "nothing", raw(head(content_length="0"))
    yield "a 200 with an error", raw(head(content_length=str(len(error))), error)
    yield "a 200 with an error of one word", raw(head(), b'{"error": "overloaded"}')
    yield "a list", raw(head(content_length="2"), b"[]")
    yield "null", raw(head(content_length="4"), b"null")
    yield "no choices", raw(head(content_length="2"), b"{}")
    yield "letters that are no UTF-8", raw(head(), whole.replace("ü".encode(), b"\xff"))
    yield "20,000 levels", raw(head(), b'{"choices":' + b"[" * 20_000 + b"]" * 20_000 + b"}")
    yield "no HTTP", raw(b"SSH-2.0-OpenSSH_9.6\r\n")
    yield "a head of 1 MB", raw(b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 1_000_000 + b"\r\n\r\n" + whole)
    yield "gzip that is none", raw(head(content_encoding="gzip"), whole)


NO_ANSWERS = dict(_no_answers())
"""Instead of a whole answer; the next target is asked, or it is `upstream_unavailable`."""


def _no_streams() -> Iterator[tuple[str, Script]]:
    error = '{"error":{"message":"the model is overloaded","type":"server_error","code":null}}'
    yield "HTML with 200", raw(head(kind="text/html"), HTML.encode())
    yield "HTML with 502", raw(head(502, kind="text/html"), HTML.encode())
    yield "nothing", streams(b"")
    yield "[DONE] alone", streams(sse([]))
    yield "comments alone", streams(b": ping\n\n" * 10)
    yield "an error as the first event", streams(sse([error]))
    yield "an error as the first event, by name", streams(f"event: error\ndata: {error}\n\n".encode())
    yield "a role, then an error", streams(sse([said()[0], error]))
    yield "a role, then closed", streams(sse(said()[:1], done=False))
    yield "a role, then reset", streams(sse(said()[:1], done=False), cut=True)
    yield "half JSON first", streams(b'data: {"id":"x","choices":[{"index":0,"del\n\n')
    yield "an error that is no stream", raw(head(), error.encode())
    yield "letters that are no UTF-8", streams(sse(said()[1:2]).replace(b"G", b"\xff"))


NO_STREAMS = dict(_no_streams())
"""Instead of a stream, before its first token; the next target is asked, silently."""


def _broken_streams() -> Iterator[tuple[str, Script]]:
    begun = sse(said(finish=None), done=False)

    def then(*rest: bytes, cut: bool = False) -> Script:
        return raw(head(kind="text/event-stream"), begun, *rest, cut=cut, pause_s=CUT_AFTER_S)

    yield "closed without a finish", then()
    yield "reset", then(cut=True)
    yield "an error", then(sse(['{"error":{"message":"overloaded","type":"server_error","code":null}}']))
    yield "an error of one word", then(sse(['{"error":"overloaded"}']))
    yield "half a chunk", then(said()[0][:40].encode())
    yield "half JSON", then(b"data: " + said()[0][:40].encode() + b"\n\n")
    yield "HTML", then(f"data: {HTML}\n\n".encode())
    yield "letters that are no UTF-8", then(b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n')


BROKEN_STREAMS = dict(_broken_streams())
"""All of `TEXT`, and then no right end."""


def endless(
    *,
    status: int = 200,
    kind: str = "application/json",
    framing: str = "length",
    first: bytes = b"",
    piece: bytes = PIECE,
) -> Script:
    """`first`, then `piece` again and again, until the caller leaves.

    `framing`: `length` promises 3 GB, `chunked` nothing, `close` ends with the connection.
    """

    async def script(exchange: Exchange) -> None:
        headers = {"length": {"content_length": "3000000000"}, "chunked": {"transfer_encoding": "chunked"}}
        await exchange.send(head(status, kind, **headers.get(framing, {})) + first)
        if first:
            await asyncio.sleep(CUT_AFTER_S)
        wire = f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if framing == "chunked" else piece
        try:
            for _ in range(MAX_SENT_BYTES // len(wire)):
                await exchange.send(wire)
        except ConnectionError:
            await exchange.upstream.at_gate()  # until the server has seen it, too, and notes when
        raise ConnectionResetError

    return script


def bomb(n_bytes: int = 1_000_000_000) -> Script:
    """A thousandth of `n_bytes` on the wire, spaces when unpacked."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(PIECE) for _ in range(n_bytes // len(PIECE))) + packer.flush()
    return raw(head(content_encoding="gzip", content_length=str(len(packed))), packed)


def packed(body: bytes, kind: str = "application/json") -> Script:
    """gzip, though nobody asked for it."""
    data = gzip.compress(body)
    return raw(head(kind=kind, content_encoding="gzip", content_length=str(len(data))), data)


def redirects(status: int, to: str) -> Script:
    return raw(head(status, location=to, content_length="0"))


class PeakMemory:
    """The most that a server's process held since this was made."""

    def __init__(self, server: RunningServer) -> None:
        self._proc = Path(f"/proc/{server.process.pid}")
        (self._proc / "clear_refs").write_text("5")  # proc(5): resets the peak to what is held now
        self._before_mb = self._mb("VmRSS")

    @property
    def grown_mb(self) -> float:
        return self._mb("VmHWM") - self._before_mb

    def _mb(self, name: str) -> float:
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
