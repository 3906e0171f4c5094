"""Parsing in a process of its own: same result, and nothing that a file does reaches the server."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.knowledge.ingestion import parse_process
from app.knowledge.ingestion.errors import FileTooComplex, UnreadableFile, UnsupportedFile
from app.knowledge.ingestion.parse_process import parse_in_process
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
    """What comes over the pipe is what `parse` returns."""
    path = tmp_path / "merkblatt.pdf"
    path.write_bytes(samples.pdf())
    expected = parse(samples.pdf(), "merkblatt.pdf")
    assert await parse_in_process(path, "merkblatt.pdf") == expected
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
    with pytest.raises(FileTooComplex, match=r"longer than 0\.5 seconds"):
        await parse_in_process(SLOW, "slow.md", timeout_s=0.5)
    assert not children(os.getpid())


async def test_memory_bound_makes_the_file_too_complex() -> None:
    """The bound is on the process, not on the server."""
    with pytest.raises(FileTooComplex, match="memory"):
        await parse_in_process(SLOW, "big.md", memory_bytes=120 * 1024 * 1024)


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
    with pytest.raises(UnreadableFile):
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


def test_defaults_are_bounds() -> None:
    """No file is parsed without a limit on time and memory."""
    assert 0 < parse_process.TIMEOUT_S < 600
    assert 0 < parse_process.MEMORY_BYTES <= 4 * 1024**3
