"""The process in which one file is read and cut. Started by `parse_process`, which describes the wire; not for other
use. What a file could do here is bounded by the kernel: time, memory, files, children, network.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import msgspec

from app.knowledge.ingestion.chunking import CHUNK_TOKENS, chunk, estimated_tokens
from app.knowledge.ingestion.errors import DocumentError, ParseOutOfMemory, TooManyPassages, UnreadableFile
from app.knowledge.ingestion.model import Document
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
from app.knowledge.ingestion.parsing import parse
from app.processes import die_with_parent

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
"""unshare(2). Root needs no user namespace of its own, and would lose its right to read other users' files in one."""

MAX_OPEN_FILES = 64
"""Three pipes, the file, and a library at a time while it is imported."""


def main() -> None:
    """Read one request from standard input, answer it on standard output, end."""
    requests, replies = sys.stdin.buffer, _take_stdout()
    request = msgspec.msgpack.decode(_read_frame(requests), type=ParseRequest)
    _leave_network()
    _die_with(request.parent_pid)
    _limit(request.limits)
    _send(replies, _answer(request, requests, replies))
    os._exit(0)  # the watching thread and libraries' clean-up have nothing left to do


def _take_stdout() -> BinaryIO:
    """Keep the pipe for replies; whatever a library prints goes nowhere."""
    replies = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    return replies


def _read_frame(stream: BinaryIO) -> bytes:
    (length,) = FRAME_LENGTH.unpack(stream.read(FRAME_LENGTH.size))
    return stream.read(length)


def _send(replies: BinaryIO, payload: bytes) -> None:
    replies.write(FRAME_LENGTH.pack(len(payload)))
    replies.write(payload)
    replies.flush()


def _leave_network() -> None:
    """A network namespace without any interface, where the kernel lets us: a depth of defence, not the wall."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if libc.unshare(CLONE_NEWNET) != 0 and os.geteuid() != 0:
            libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _die_with(parent_pid: int) -> None:
    """On Linux the kernel kills this process with its parent; elsewhere the limit on CPU time ends it."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent_pid:  # it was gone before the kernel was asked
        os._exit(1)


def _limit(limits: ParseLimits) -> None:
    """Bounds that hold even when Python code cannot run. Where the system refuses one, the others stay."""
    with contextlib.suppress(OSError):
        # Where a machine runs out of memory all the same, its kernel shall end this process and not the server.
        Path("/proc/self/oom_score_adj").write_text("1000")
    _bound(resource.RLIMIT_AS, limits.memory_bytes)
    _bound(resource.RLIMIT_CPU, int(limits.timeout_s) + 1)
    _bound(resource.RLIMIT_CORE, 0)
    _bound(resource.RLIMIT_FSIZE, 0)  # no file grows
    _bound(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)


def _bound(kind: int, bound: int) -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (bound, bound))


def _answer(request: ParseRequest, requests: BinaryIO, replies: BinaryIO) -> bytes:
    try:
        data = _source(request, requests)
        if data is None:
            return _encoded(Refused(MISSING_SOURCE))
        threading.Thread(target=_watch, args=(requests,), daemon=True).start()
        _bound(resource.RLIMIT_NPROC, 0)  # from here on neither processes nor threads (root is exempt)
        document = parse(data, request.filename, request.content_type)
        _send(replies, _encoded(Read()))
        return _encoded(_cut(document, request.limits.max_chunks))
    except DocumentError as exc:
        return _encoded(Refused(exc.code, exc.message))
    except MemoryError:
        return _encoded(Refused(ParseOutOfMemory.code, "Reading this file takes more memory than it may have."))
    except Exception as exc:  # noqa: BLE001 - whatever a library raises on bytes like these, the file is the reason
        cause = type(exc).__name__
        return _encoded(Refused(UnreadableFile.code, "The file is damaged or incomplete.", cause))


def _source(request: ParseRequest, requests: BinaryIO) -> bytes | None:
    if request.path is None:
        return _read_frame(requests)
    try:
        return Path(request.path).read_bytes()
    except OSError:
        return None


def _cut(document: Document, max_chunks: int) -> Cut:
    chunks = chunk(document, max_tokens=CHUNK_TOKENS, count_tokens=estimated_tokens)
    if len(chunks) > max_chunks:
        raise TooManyPassages(f"The text makes {len(chunks):,} passages; {max_chunks:,} are taken at most.")
    return Cut(document.text, document.parser, [(c.start, c.end, c.heading) for c in chunks])


def _encoded(reply: Reply) -> bytes:
    return msgspec.msgpack.encode(reply)


def _watch(requests: BinaryIO) -> None:
    """End when the parent closes the pipe: also where the kernel does not tell of its death."""
    requests.read(1)
    os._exit(1)


if __name__ == "__main__":
    main()
