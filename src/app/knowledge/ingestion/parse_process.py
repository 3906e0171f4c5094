"""Reads and cuts a file in a process of its own: hostile bytes can crash, hang or fill that process, and nothing else.

One process a file, started with `python -m …parse_process_child` (never a fork of the threaded server), killed with
all it started on time-out and on cancellation, and dead when its parent is. It gets no environment, so no keys either;
what else it is denied says the child. What it costs: 0.2–0.4 s to start Python and import one parser. How many run at
once is the caller's to bound.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from app.knowledge.ingestion.errors import BY_CODE, ParseCrashed, ParseTimeout, UnreadableFile
from app.knowledge.ingestion.model import Chunk, CutDocument
from app.knowledge.ingestion.parse_process_wire import (
    FRAME_LENGTH,
    MISSING_SOURCE,
    Cut,
    ParseLimits,
    ParseRequest,
    Read,
    Refused,
    Reply,
)

__all__ = ["ParseLimits", "parse_in_process"]

logger = logging.getLogger("ingestion")

CHILD_MODULE = "app.knowledge.ingestion.parse_process_child"
SLICE_BYTES = 1024 * 1024  # written at once: copying more into the pipe's buffer would hold the loop

MAX_REPLY_BYTES = 256 * 1024 * 1024
"""20 million characters (the builder's bound) are at most 80 MB, 50,000 headings of a chunk's length 150 MB more. A
child that promises more has been taken over."""


async def _nothing() -> None:
    return


async def parse_in_process(
    source: Path | bytes,
    filename: str,
    content_type: str | None = None,
    *,
    limits: ParseLimits | None = None,
    on_read: Callable[[], Awaitable[None]] = _nothing,
) -> CutDocument:
    """`parsing.parse` and `chunking.chunk` in a child process. `on_read` is awaited between the two.

    Raises: DocumentError of the kind these raise; ParseTimeout, ParseOutOfMemory, ParseCrashed; FileNotFoundError when
    `source` cannot be opened; what `on_read` raises. Cancelling kills the child.
    """
    limits = limits or ParseLimits()
    path = str(source) if isinstance(source, Path) else None
    request = ParseRequest(
        filename=filename, content_type=content_type, path=path, limits=limits, parent_pid=os.getpid()
    )
    frames = [msgspec.msgpack.encode(request)]
    if isinstance(source, bytes):
        frames.append(source)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", CHILD_MODULE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        start_new_session=True,  # Ctrl-C in a terminal reaches the server, which then decides
    )
    try:
        async with asyncio.timeout(limits.timeout_s):
            await _send(process, frames)
            reply = await _receive(process)
            if isinstance(reply, Read):
                await on_read()
                reply = await _receive(process)
    except TimeoutError as exc:
        raise ParseTimeout(f"Reading this file took longer than {limits.timeout_s:g} seconds.") from exc
    finally:
        await _kill(process)
    return await asyncio.to_thread(_document, reply, path)


async def _send(process: asyncio.subprocess.Process, frames: list[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died early; what it answers says so
        for frame in frames:
            process.stdin.write(FRAME_LENGTH.pack(len(frame)))
            for at in range(0, len(frame), SLICE_BYTES):
                process.stdin.write(frame[at : at + SLICE_BYTES])
                await process.stdin.drain()


async def _receive(process: asyncio.subprocess.Process) -> Reply:
    """Raises: ParseCrashed when there is no answer, or none that the child would give."""
    assert process.stdout is not None
    try:
        (length,) = FRAME_LENGTH.unpack(await process.stdout.readexactly(FRAME_LENGTH.size))
        if length > MAX_REPLY_BYTES:
            raise _crashed()
        payload = await process.stdout.readexactly(length)
        # Megabytes of text take longer to decode than the loop may be held.
        return await asyncio.to_thread(msgspec.msgpack.decode, payload, type=Reply)
    except (asyncio.IncompleteReadError, msgspec.DecodeError):
        raise _crashed() from None


def _crashed() -> ParseCrashed:
    return ParseCrashed("The file made its parser fail: it is damaged, or unpacks to more than fits into memory.")


def _document(reply: Reply, path: str | None) -> CutDocument:
    """Raises: DocumentError, FileNotFoundError."""
    match reply:
        case Cut(text, parser, spans):
            chunks = [
                Chunk(ordinal, start, end, heading, text[start:end])
                for ordinal, (start, end, heading) in enumerate(spans)
            ]
            return CutDocument(text, parser, chunks)
        case Refused(code, message, cause):
            if code == MISSING_SOURCE:
                raise FileNotFoundError(path)
            if cause:
                logger.warning("a parser raised %s", cause)
            raise BY_CODE.get(code, UnreadableFile)(message)
        case Read():
            raise _crashed()


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End the child with all that it started, and take up its exit status; a second cancellation leaves none behind.

    By the group's number, which is the child's own: what it started is in it, also when the child itself has ended.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    await asyncio.shield(process.wait())
