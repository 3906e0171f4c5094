"""One child process as its parent sees it: started with nothing it does not need, ended without a trace."""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import msgspec

SOURCE_ROOT = Path(__file__).resolve().parents[2]
"""The directory that holds the package `app`: the child must find it even when nothing is installed."""
INHERITED = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "TMPDIR")
"""All that a child gets of the server's environment. It parses strangers' documents in C: no keys, no addresses."""
LINE_CHARS = 500
"""Of a line on stderr that is logged."""
STDERR_LINE_BYTES = 1 << 16
"""A longer line is cut: no child can make its parent hoard memory."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What to start: a module of ours, its extra environment, and the first bytes on its stdin (secrets go there)."""

    module: str
    env: Mapping[str, str] = {}
    greeting: bytes = b""


class ChildProcess:
    """A running child with pipes. Listening sockets and other descriptors of the parent are closed in it.

    Must be spawned in the thread of the event loop: the child dies with the thread that forked it (see `lifeline`).
    """

    def __init__(self, process: asyncio.subprocess.Process, log: Callable[[str], None]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.pid = process.pid
        self.quiet = False
        self._process = process
        self._stderr = asyncio.create_task(self._relay_stderr(log), name=f"stderr of {process.pid}")

    @classmethod
    async def spawn(cls, launch: Launch, inherit: Mapping[str, str], log: Callable[[str], None]) -> Self:
        """Start `python -m module`. `log` gets its stderr line by line until `quiet` is set. Raises: OSError."""
        env = {name: inherit[name] for name in INHERITED if name in inherit}
        env |= {"PYTHONPATH": str(SOURCE_ROOT), "PYTHONUNBUFFERED": "1", **launch.env}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            launch.module,  # -P: the working directory is not a place to import from
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            close_fds=True,
        )
        child = cls(process, log)
        child.stdin.write(launch.greeting)
        return child

    async def wait(self) -> str:
        """Wait until it is gone. Returns: how it ended, in words fit for a health page."""
        code = await self._process.wait()
        if code >= 0:
            return f"exited with code {code}"
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"

    async def stop(self, grace_s: float) -> str:
        """Ask it to leave (end of stdin), SIGKILL after `grace_s`, and reap it. Returns: how it ended.

        When cancelled it kills at once; the event loop still reaps.
        """
        self.stdin.close()
        # Not `asyncio.timeout`: the supervisor stops us while it is being cancelled itself, and before Python 3.11.3
        # (Debian 12 has 3.11.2) a time-out then ends in a second cancellation, with the child killed but not reaped.
        leaving = asyncio.create_task(self._process.wait(), name=f"leaving of {self.pid}")
        try:
            await asyncio.wait([leaving], timeout=grace_s)
        finally:
            self.kill()
        await leaving
        ending = await self.wait()
        await self._stderr
        return ending

    def kill(self) -> None:
        """SIGKILL, if it is still there: works on frozen processes too."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _relay_stderr(self, log: Callable[[str], None]) -> None:
        """Read stderr to its end, so that the child never blocks on it.

        Once `quiet`, lines are dropped: while it serves, a child may quote what it was asked (llama.cpp prints a
        grammar that it refuses, whatever its verbosity), and prompts do not belong in logs.
        """
        stderr = self._process.stderr
        assert stderr is not None
        line = b""
        while block := await stderr.read(STDERR_LINE_BYTES):
            *lines, line = (line + block).split(b"\n")
            line = line[-STDERR_LINE_BYTES:]
            if not self.quiet:
                for text in lines:
                    log(text.decode(errors="replace")[:LINE_CHARS])
        if line and not self.quiet:
            log(line.decode(errors="replace")[:LINE_CHARS])
