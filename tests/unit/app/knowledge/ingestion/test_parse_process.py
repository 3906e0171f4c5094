"""Parsing in a process of its own: same result, and nothing that a file does reaches the server."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.knowledge.ingestion.chunking import CHUNK_TOKENS, chunk, estimated_tokens
from app.knowledge.ingestion.errors import (
    ParseCrashed,
    ParseOutOfMemory,
    ParseTimeout,
    TooManyPassages,
    UnsupportedFile,
)
from app.knowledge.ingestion.model import CutDocument
from app.knowledge.ingestion.parse_process import ParseLimits, parse_in_process
from app.knowledge.ingestion.parsing import parse
from documents import samples

SLOW = b"# Heading\n\nfoo *bar* [baz](x)\n\n" * 200_000
"""Takes the Markdown parser more than ten seconds."""
DEADLINE_S = 20.0


def children(of: int) -> set[int]:
    """Pids of the running (not zombie) children that parse."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(entry.parent.name), entry.read_text().rsplit(")", 1)[1].split()
            command = (entry.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(rest[1]) == of and rest[0] != "Z" and b"parse_process_child" in command:
            found.add(pid)
    return found


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


async def test_result_is_the_parsers_own_from_path_and_bytes(tmp_path: Path) -> None:
    """What comes over the pipe is what `parse` and `chunk` return; in between, the caller is told."""
    path = tmp_path / "merkblatt.pdf"
    path.write_bytes(samples.pdf())
    document = parse(samples.pdf(), "merkblatt.pdf")
    chunks = chunk(document, max_tokens=CHUNK_TOKENS, count_tokens=estimated_tokens)
    expected = CutDocument(document.text, "pdf", chunks)
    told = []

    async def on_read() -> None:
        told.append("read")

    assert await parse_in_process(path, "merkblatt.pdf", on_read=on_read) == expected
    assert told == ["read"]
    assert await parse_in_process(samples.pdf(), "merkblatt.pdf", "application/pdf") == expected


async def test_parser_errors_keep_their_class_and_message() -> None:
    """The caller cannot tell whether it was parsed here or there."""
    with pytest.raises(UnsupportedFile, match="Excel"):
        await parse_in_process(samples.workbook(), "a.docx")


async def test_missing_source_is_not_the_documents_fault(tmp_path: Path) -> None:
    """A file that the store lost is another matter than one that cannot be read."""
    with pytest.raises(FileNotFoundError):
        await parse_in_process(tmp_path / "gone.pdf", "gone.pdf")


async def test_time_out_kills_the_process() -> None:
    """A file that takes too long is too complex, and its process is gone when the error arrives."""
    with pytest.raises(ParseTimeout, match=r"longer than 0\.5 seconds"):
        await parse_in_process(SLOW, "slow.md", limits=ParseLimits(timeout_s=0.5))
    assert not children(os.getpid())


async def test_memory_bound_makes_the_file_too_complex() -> None:
    """The bound is on the process, not on the server."""
    with pytest.raises(ParseOutOfMemory):
        await parse_in_process(SLOW, "big.md", limits=ParseLimits(memory_bytes=120 * 1024 * 1024))


async def test_cancellation_kills_the_process() -> None:
    """A cancelled job leaves nothing that computes on."""
    task = asyncio.create_task(parse_in_process(SLOW, "slow.md"))
    await eventually(lambda: bool(children(os.getpid())))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not children(os.getpid())


async def test_crash_of_the_parser_is_an_unreadable_file() -> None:
    """A segmentation fault in native code ends the child, not the server."""
    task = asyncio.create_task(parse_in_process(SLOW, "slow.md"))
    await eventually(lambda: bool(children(os.getpid())))
    (pid,) = children(os.getpid())
    os.kill(pid, signal.SIGSEGV)
    with pytest.raises(ParseCrashed):
        await task


async def test_child_dies_with_its_parent(tmp_path: Path) -> None:
    """Also when the parent is killed and cannot clean up."""
    slow = tmp_path / "slow.md"
    slow.write_bytes(SLOW)
    program = (
        "import asyncio; from pathlib import Path\n"
        "from app.knowledge.ingestion.parse_process import parse_in_process\n"
        f"asyncio.run(parse_in_process(Path({str(slow)!r}), 'slow.md'))"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        env={"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )
    await eventually(lambda: bool(children(parent.pid)))
    (pid,) = children(parent.pid)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not running(pid))


async def test_child_sees_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A parser that a file took over finds no keys in its environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    source = tmp_path / "slow.md"
    source.write_bytes(SLOW)
    task = asyncio.create_task(parse_in_process(source, "slow.md"))
    await eventually(lambda: bool(children(os.getpid())))
    (pid,) = children(os.getpid())
    await eventually(lambda: b"PYTHONPATH" in Path(f"/proc/{pid}/environ").read_bytes())
    assert b"sk-secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_passages_of_one_document_are_bounded() -> None:
    """Text that is within every other bound can still be cut into more passages than anybody embeds."""
    many = b"# a\n\nb\n\n" * 20
    assert len((await parse_in_process(many, "many.md", limits=ParseLimits(max_chunks=20))).chunks) == 20
    with pytest.raises(TooManyPassages, match="20 passages; 19"):
        await parse_in_process(many, "many.md", limits=ParseLimits(max_chunks=19))


def limits_of(pid: int) -> dict[str, str]:
    """The soft limits of a process, by name."""
    rows = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {row[:26].strip(): row[26:].split()[0] for row in rows}


def may_leave_network() -> bool:
    """Whether this system lets an unprivileged process, or root where we are root, into a namespace of its own."""
    flags = 0x40000000 if os.geteuid() == 0 else 0x50000000
    program = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({flags}) != 0)"
    return subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_child_may_do_nothing_but_read_and_answer(tmp_path: Path) -> None:
    """Limits of the kernel's on time, memory, open files, file size, core dumps and children; it goes first when the
    machine is out of memory; no network where the system allows to leave it.
    """
    source = tmp_path / "slow.md"
    source.write_bytes(SLOW)
    task = asyncio.create_task(parse_in_process(source, "slow.md", limits=ParseLimits(timeout_s=60)))
    await eventually(lambda: bool(children(os.getpid())))
    (pid,) = children(os.getpid())
    await eventually(lambda: limits_of(pid)["Max processes"] == "0")
    limits = limits_of(pid)
    assert limits["Max address space"] == str(ParseLimits().memory_bytes)
    assert (limits["Max cpu time"], limits["Max open files"]) == ("61", "64")
    assert (limits["Max file size"], limits["Max core file size"]) == ("0", "0")
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    has_left = Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert has_left == may_leave_network()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_descendants_of_the_child_end_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A parser that was taken over and started a process: it is in the child's group, which ends as a whole."""
    folder = tmp_path / "app" / "knowledge" / "ingestion"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent, folder.parent.parent):
        (package / "__init__.py").touch()
    (folder / "parse_process_child.py").write_text(
        "import pathlib, subprocess\n"
        "started = subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL)\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(started.pid))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))  # what is imported here stays; the child finds the other one
    with pytest.raises(ParseCrashed):
        await parse_in_process(b"x", "a.txt")
    pid = int((tmp_path / "pid").read_text())
    await eventually(lambda: not running(pid))
