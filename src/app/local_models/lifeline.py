"""The first lines of every child: it leaves when its parent is gone, and leaves signals to its parent.

Runs in the child, before anything heavy is imported. Standard library only.
"""

from __future__ import annotations

import os
import signal
from typing import BinaryIO

from app.processes import die_with_parent


def attach_to_parent() -> tuple[BinaryIO, BinaryIO]:
    """Tie this process to its parent. Returns: the binary pipes (from the parent, to the parent); flush the second.

    Two ties, because each has a gap: the end of stdin works everywhere but needs the child to be reading, and not to be
    held open by a stray fork of the parent; the kernel's signal cannot be missed, but is Linux only. It fires when the
    forking *thread* ends, so the parent forks in the thread of its event loop (asyncio and uvloop both do).

    Ctrl-C reaches the whole terminal group and `systemctl stop` the whole cgroup, while the parent may still be
    finishing streams that need this child. So SIGINT and SIGTERM are ignored; the end of stdin is the polite request
    to leave.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent(signal.SIGKILL)
    to_parent = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land between the frames
    return os.fdopen(os.dup(0), "rb"), to_parent


def leave_with_parent(from_parent: BinaryIO) -> None:
    """Block until the parent closes the pipe or dies, then leave at once: native threads are not asked."""
    while from_parent.read(4096):
        pass
    os._exit(0)
