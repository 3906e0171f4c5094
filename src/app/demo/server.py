"""A `wattos serve` of the demo's own, as a user would start it. Knows nothing of what is inside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from app.processes import die_with_parent
from plugins.contract.errors import WattosError

START_TIMEOUT_S = 120.0
"""A first start makes a database cluster and migrates it: 3–6 s on two cores, far more on a loaded machine."""


class DemoFailed(WattosError):
    """A step of the demo did not do what it should."""

    code = "demo_failed"


class ServerProcess:
    """Runs the server while the context is open; SIGTERM at its end, and at the demo's own death."""

    def __init__(self, env: Mapping[str, str], *, port: int, log: Path) -> None:
        self.port = port if _is_free(port) else _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve", "--port", str(self.port)],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to pass on, as SIGTERM
                preexec_fn=partial(die_with_parent, signal.SIGTERM),  # no threads yet
            )
        return self

    def wait_until_ready(self) -> None:
        """Raises: DemoFailed with the end of the server's log."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise DemoFailed(f"the server ended at start; the end of {self.log}:\n{self._tail()}")
            try:
                if httpx.get(f"{self.url}/health/readiness", timeout=5).status_code == HTTPStatus.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise DemoFailed(f"the server was not ready within {START_TIMEOUT_S:g} s; see {self.log}")

    def wait(self) -> None:
        """Until the server ends by itself, or the user interrupts."""
        if self._process is not None:
            self._process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=float(self._env.get("SHUTDOWN_GRACE_S") or 30) + 15)
        except subprocess.TimeoutExpired:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
