"""What the tests of local models share: waiting with a deadline, looking at processes, small programs as children."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from app.local_models.child_process import SOURCE_ROOT, ChildProcess, Launch
from app.local_models.supervisor import ChildState

MODELS_DIR = Path(__file__).resolve().parents[4] / ".data" / "models"
"""Where `make test` and `make demo` pull the weights to, once."""
DEADLINE_S = 20.0
"""For anything on a machine that is busy with other tests."""


async def eventually(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return as soon as the condition holds. Raises: AssertionError after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def open_files(pid: int) -> list[str]:
    """What each descriptor of the process points to, e.g. `socket:[123]`."""
    return [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]


class Script:
    """A `Program` for the supervisor: a few lines of Python that print `ready` when they are."""

    name = "script"

    def __init__(self, folder: Path, source: str, *, ready_timeout_s: float = DEADLINE_S) -> None:
        self.ready_timeout_s = ready_timeout_s
        self.losses: list[ChildState] = []
        self._folder = folder
        (folder / "script_child.py").write_text(source)

    def launch(self) -> Launch:
        return Launch(
            module="script_child", env={"PYTHONPATH": f"{self._folder}:{SOURCE_ROOT}"}, greeting=b"the secret\n"
        )

    async def greet(self, child: ChildProcess) -> None:
        if await child.stdout.readline() != b"ready\n":
            raise EOFError

    async def attend(self, child: ChildProcess) -> None:
        await child.stdout.read()

    def lost(self, state: ChildState) -> None:
        self.losses.append(state)
