"""The process in which one file is parsed. Started by `parse_process`, which describes the wire; not for other use."""

import contextlib
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import msgspec

from app.knowledge.ingestion.errors import DocumentError, FileTooComplex, UnreadableFile
from app.knowledge.ingestion.parse_process_wire import FRAME_LENGTH, MISSING_SOURCE, ParseReply, ParseRequest
from app.knowledge.ingestion.parsing import parse
from app.processes import die_with_parent


def main() -> None:
    """Read one request from standard input, answer it on standard output, end."""
    requests, replies = sys.stdin.buffer, _take_stdout()
    request = msgspec.msgpack.decode(_read_frame(requests), type=ParseRequest)
    _die_with(request.parent_pid)
    _limit(request)
    reply = _answer(request, requests)
    payload = msgspec.msgpack.encode(reply)
    replies.write(FRAME_LENGTH.pack(len(payload)))
    replies.write(payload)
    replies.flush()
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


def _die_with(parent_pid: int) -> None:
    """On Linux the kernel kills this process with its parent; elsewhere the limit on CPU time ends it."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent_pid:  # it was gone before the kernel was asked
        os._exit(1)


def _limit(request: ParseRequest) -> None:
    """Bounds that hold even when Python code cannot run. Where the system refuses one, the others stay."""
    cpu_s = int(request.timeout_s) + 1
    bounds = (
        (resource.RLIMIT_AS, request.memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, bound in bounds:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (bound, bound))


def _answer(request: ParseRequest, requests: BinaryIO) -> ParseReply:
    try:
        data = _read_frame(requests) if request.path is None else Path(request.path).read_bytes()
    except OSError:
        return ParseReply(code=MISSING_SOURCE)
    try:
        threading.Thread(target=_watch, args=(requests,), daemon=True).start()
        return ParseReply(parse(data, request.filename, request.content_type))
    except DocumentError as exc:
        return ParseReply(code=exc.code, message=exc.message)
    except MemoryError:
        return ParseReply(code=FileTooComplex.code, message="Reading this file takes more memory than it may have.")
    except Exception as exc:  # noqa: BLE001 - whatever a library raises on bytes like these, the file is the reason
        kind = type(exc).__name__
        return ParseReply(code=UnreadableFile.code, message=f"The file is damaged or incomplete ({kind}).")


def _watch(requests: BinaryIO) -> None:
    """End when the parent closes the pipe: also where the kernel does not tell of its death."""
    requests.read(1)
    os._exit(1)


if __name__ == "__main__":
    main()
