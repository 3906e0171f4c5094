"""A PostgreSQL in a process of its own that can be killed and stay away, freeze, and have no connection left.

`python postgres_server.py DATA_DIR` owns an embedded server until its stdin ends, and prints the URL.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from app.database.cluster import Cluster, is_alive
from app.database.embedded import embedded_postgres

MAX_CONNECTIONS = 60
"""Two replicas take up to 21 each: pool, burst and the one that listens."""

START_TIMEOUT_S = 120.0
"""initdb and start take 2 s; a machine may have other things to do."""

END_TIMEOUT_S = 30.0


class PostgresServer:
    """Its owner would start it anew at once: while it is to be away, the owner is stopped."""

    def __init__(self, data_dir: Path) -> None:
        self._cluster = Cluster(data_dir)
        self._taken: list[psycopg.Connection[tuple[object, ...]]] = []
        self._frozen: list[int] = []
        self._owner = subprocess.Popen(
            [sys.executable, __file__, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        assert self._owner.stdout is not None
        self.url = self._owner.stdout.readline().decode().strip()
        assert self.url.startswith("postgresql:"), self.url

    def kill(self) -> None:
        """SIGKILL of all of it; it is not started again before `restart`."""
        self._owner.send_signal(signal.SIGSTOP)
        pids = self._pids()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        _wait(lambda: not any(map(is_alive, pids)))

    def restart(self) -> None:
        """Returns once it takes connections again."""
        self._owner.send_signal(signal.SIGCONT)
        _wait(self._answers, START_TIMEOUT_S)

    def freeze(self) -> None:
        """Connections stay, new ones are still taken by the kernel, and nobody answers."""
        self._frozen = self._pids()
        for pid in self._frozen:
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._frozen:
            _signal(pid, signal.SIGCONT)
        self._frozen = []
        _wait(self._answers)

    def exhaust(self) -> None:
        """Somebody else has all connections, and those of ours are ended: "sorry, too many clients already"."""
        self._take_all()
        self._taken[0].execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where pid <> pg_backend_pid() and application_name <> 'taken' and backend_type = 'client backend'"
        )
        deadline = time.monotonic() + 1.0  # ours are ended within moments, and whoever asks for theirs is refused
        while time.monotonic() < deadline:
            self._take_all()
            time.sleep(0.01)

    def relieve(self) -> None:
        while self._taken:
            self._taken.pop().close()
        _wait(self._answers)

    def stop(self) -> None:
        """Whatever state it is in."""
        for pid in self._frozen:
            _signal(pid, signal.SIGCONT)
        while self._taken:
            self._taken.pop().close()
        self._owner.send_signal(signal.SIGCONT)
        try:
            self._owner.communicate(timeout=END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for pid in [*self._pids(), self._owner.pid]:
                _signal(pid, signal.SIGKILL)
            self._owner.communicate()

    def _take_all(self) -> None:
        with suppress(psycopg.OperationalError):
            while True:
                self._taken.append(psycopg.connect(self.url, autocommit=True, application_name="taken"))

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def _pids(self) -> list[int]:
        postmaster = self._cluster.running_pid()
        if postmaster is None:
            return []
        return [postmaster, *map(int, Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())]


@contextmanager
def running_postgres(data_dir: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(data_dir)
    try:
        yield server
    finally:
        server.stop()


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait(condition: Callable[[], bool], limit_s: float = END_TIMEOUT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s"
        time.sleep(0.02)


async def _own(data_dir: Path) -> None:
    # Thrown away anyway: nothing waits for the disk. (A kill of processes loses nothing even so.)
    async with embedded_postgres(data_dir, {"fsync": "off", "max_connections": str(MAX_CONNECTIONS)}) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_own(Path(sys.argv[1])))
