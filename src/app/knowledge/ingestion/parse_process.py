"""Parses a file in a process of its own: hostile bytes can crash, hang or fill that process, and nothing else.

One process a file, started with `python -m …parse_process_child` (never a fork of the threaded server), killed on
time-out and on cancellation, and dead when its parent is. It gets no environment, so no keys either. What it costs:
0.2–0.4 s to start Python and import one parser. How many run at once is the caller's to bound.
"""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import msgspec

from app.knowledge.ingestion.errors import BY_CODE, FileTooComplex, UnreadableFile
from app.knowledge.ingestion.model import Document
from app.knowledge.ingestion.parse_process_wire import FRAME_LENGTH, MISSING_SOURCE, ParseReply, ParseRequest

CHILD_MODULE = "app.knowledge.ingestion.parse_process_child"
SLICE_BYTES = 1024 * 1024  # written at once: copying more into the pipe's buffer would hold the loop

MAX_REPLY_BYTES = 256 * 1024 * 1024
"""20 million characters (the builder's bound) are at most 80 MB, 400,000 blocks of about 30 bytes 12 MB more."""

TIMEOUT_S = 120.0
"""Default for one file. 5,000 PDF pages take 25 s, 64 MB of DOCX XML about 40 s on one core; doubled for a busy one."""

MEMORY_BYTES = 2 * 1024**3
"""Default address space. The largest DOCX that is let in takes 1.1 GB with its tree, and shared libraries count too."""


async def parse_in_process(
    source: Path | bytes,
    filename: str,
    content_type: str | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
) -> Document:
    """`parsing.parse` in a child process within `timeout_s` of wall-clock time and `memory_bytes` of address space.

    Raises: DocumentError of the kind `parse` raises; FileTooComplex on time-out; UnreadableFile when the parser
    crashes; FileNotFoundError when `source` cannot be opened. Cancelling kills the child.
    """
    path = str(source) if isinstance(source, Path) else None
    request = ParseRequest(filename, content_type, path, timeout_s, memory_bytes, os.getpid())
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
        async with asyncio.timeout(timeout_s):
            payload = await _exchange(process, frames)
    except TimeoutError as exc:
        raise FileTooComplex(f"Reading this file took longer than {timeout_s:g} seconds.") from exc
    finally:
        await _kill(process)
    if payload is None:
        raise UnreadableFile("The file is damaged: reading it made its parser fail.")
    # Megabytes of text take longer to decode than the loop may be held.
    reply = await asyncio.to_thread(msgspec.msgpack.decode, payload, type=ParseReply)
    if reply.document is None:
        if reply.code == MISSING_SOURCE:
            raise FileNotFoundError(path)
        raise BY_CODE.get(reply.code, UnreadableFile)(reply.message)
    return reply.document


async def _exchange(process: asyncio.subprocess.Process, frames: list[bytes]) -> bytes | None:
    """The reply's bytes; None when the child ended without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died early; the read below says so
        for frame in frames:
            process.stdin.write(FRAME_LENGTH.pack(len(frame)))
            for at in range(0, len(frame), SLICE_BYTES):
                process.stdin.write(frame[at : at + SLICE_BYTES])
                await process.stdin.drain()
    try:
        (length,) = FRAME_LENGTH.unpack(await process.stdout.readexactly(FRAME_LENGTH.size))
        return await process.stdout.readexactly(length) if length <= MAX_REPLY_BYTES else None
    except asyncio.IncompleteReadError:
        return None


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End the child and take up its exit status; a second cancellation does not leave it behind."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await asyncio.shield(process.wait())
