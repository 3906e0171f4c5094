"""Enters the image as an orchestrator would run it. There is no container engine here: a mount namespace with a
read-only bind mount, chroot, and a numeric user are what an engine does, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.engine import make_url

ROOT = Path(os.environ["IMAGE_ROOT"])
CONFIG: dict[str, Any] = json.loads(Path(os.environ["IMAGE_JSON"]).read_text())["Docker"]["config"]
USER = "10001:10001"
COMMAND_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0

ENTER = """
set -eu
mount --make-rprivate /
mount --bind "$IMAGE_ROOT" "$IMAGE_ROOT"
mount -o remount,bind,ro "$IMAGE_ROOT"
mount -t tmpfs -o mode=1777 tmpfs "$IMAGE_ROOT/tmp"
mount --bind "$DATA" "$IMAGE_ROOT/data"
mount --rbind /dev "$IMAGE_ROOT/dev"
mount -t proc proc "$IMAGE_ROOT/proc"
mkdir -p "$IMAGE_ROOT/tmp/pg"
mount --bind "$SOCKETS" "$IMAGE_ROOT/tmp/pg"
exec chroot --userspec="$RUN_AS" "$IMAGE_ROOT" "$@"
"""
"""Each step becomes the next, so the process that is started is `wattos` itself in the end."""


class Process:
    """One long-running command of the image, with its own management port."""

    def __init__(self, popen: subprocess.Popen[bytes], management_port: int, log: Path) -> None:
        self.popen = popen
        self.management_url = f"http://127.0.0.1:{management_port}"
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()[-4000:]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            assert self.popen.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            try:
                if httpx.get(f"{self.management_url}/health/readiness", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)

    def status(self, field: str) -> str:
        """A field of /proc/<pid>/status, e.g. `Uid`."""
        lines = Path(f"/proc/{self.popen.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))

    def mounts(self) -> dict[str, str]:
        """Mount point → its options, as this process sees them."""
        lines = Path(f"/proc/{self.popen.pid}/mountinfo").read_text().splitlines()
        return {fields[4]: fields[5] for fields in map(str.split, lines)}

    def resident_bytes(self) -> int:
        """Of the process and all its descendants."""
        pids = [self.popen.pid]
        for pid in pids:
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return sum(_resident_bytes(pid) for pid in pids)

    def stop(self) -> int:
        """SIGTERM, then its exit code."""
        self.popen.terminate()
        return self.popen.wait(STOP_TIMEOUT_S)


class Container:
    """How to run commands of the image with an environment, a volume, and the way to a database's socket."""

    def __init__(self, data: Path, sockets: Path, env: Mapping[str, str]) -> None:
        self._mounts = {"IMAGE_ROOT": str(ROOT), "DATA": str(data), "SOCKETS": str(sockets)}
        self._env = {**dict(line.split("=", 1) for line in CONFIG["Env"]), **env}

    def run(
        self, *command: str, user: str = USER, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """To its end. `env` is added to the container's own; an empty value unsets."""
        arguments = self._arguments(command, env or {}, user)
        return subprocess.run(arguments, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)

    @contextmanager
    def running(self, *command: str, env: Mapping[str, str], log: Path) -> Iterator[Process]:
        """Ready while the context is open; nothing of it is left afterwards."""
        with log.open("wb") as out:
            popen = subprocess.Popen(
                self._arguments(command, env, USER), stdout=out, stderr=out, start_new_session=True
            )
        try:
            process = Process(popen, int(env["MANAGEMENT_PORT"]), log)
            process.wait_until_ready()
            yield process
        finally:
            if popen.poll() is None:
                os.killpg(popen.pid, signal.SIGKILL)
                popen.wait()

    def _arguments(self, command: tuple[str, ...], env: Mapping[str, str], user: str) -> list[str]:
        outside = [f"{name}={value}" for name, value in {**self._mounts, "RUN_AS": user}.items()]
        inside = [f"{name}={value}" for name, value in {**self._env, **env}.items() if value]
        entered = ["/usr/bin/env", "-i", *inside, *command]
        return ["/usr/bin/env", *outside, "unshare", "--mount", "sh", "-c", ENTER, "enter", *entered]


def socket_directory(url: str) -> Path:
    """Of a PostgreSQL that listens on a unix socket alone."""
    host = make_url(url).query["host"]
    assert isinstance(host, str)
    return Path(host)


def url_inside(url: str) -> str:
    """The same database, as it is reached in the container."""
    return make_url(url).update_query_dict({"host": "/tmp/pg"}).render_as_string(hide_password=False)


def _resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
