"""A process that runs an embedded PostgreSQL until its stdin ends: something for a test to kill. Prints the URL.

`python postgres_owner.py DATA_DIR [--without-namespaces]`
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

from app.database.cluster import Cluster, is_alive
from app.database.embedded import embedded_postgres
from plugins.contract.errors import WattosError

WAIT_S = 60.0
"""Far more than anything here takes, on a machine that does something else as well."""


class Owner:
    """That process, seen from a test."""

    def __init__(self, process: asyncio.subprocess.Process, data_dir: Path) -> None:
        self.process = process
        self.cluster = Cluster(data_dir)
        self.url = ""

    async def read_url(self) -> str:
        """Raises: AssertionError with what it printed instead."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = (await self.process.stdout.readline()).decode()
            if not line.startswith("postgresql:"):
                raise AssertionError(line + (await self.process.stdout.read()).decode())
        self.url = line.strip()
        return self.url

    def postmaster(self) -> int:
        pid = self.cluster.running_pid()
        assert pid is not None
        return pid

    async def kill(self) -> None:
        """SIGKILL, as the kernel does it when memory runs out."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """The orderly end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(WAIT_S):
            await self.process.wait()


@contextlib.asynccontextmanager
async def starting_owner(data_dir: Path, *arguments: str, user: int | None = None) -> AsyncIterator[Owner]:
    """A process that starts to own the cluster, perhaps as another user. Afterwards it and its server are gone."""
    process = await asyncio.create_subprocess_exec(
        sys.executable if user is None else str(open_python()),
        str(Path(__file__)),
        str(data_dir),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        **({} if user is None else {"user": user, "group": user, "extra_groups": []}),  # type: ignore[arg-type]
    )
    owner = Owner(process, data_dir)
    try:
        yield owner
    finally:
        if process.returncode is None:
            await owner.stop()
        left = owner.cluster.running_pid()
        if left is not None:
            os.kill(left, signal.SIGKILL)
        if owner.url:
            shutil.rmtree(unquote(owner.url.partition("host=")[2]), ignore_errors=True)
        assert process.stdout is not None
        await process.stdout.read()


@contextlib.asynccontextmanager
async def running_owner(data_dir: Path, *arguments: str, user: int | None = None) -> AsyncIterator[Owner]:
    """The same, once its server is ready."""
    async with starting_owner(data_dir, *arguments, user=user) as owner:
        await owner.read_url()
        yield owner


def is_open(path: Path) -> bool:
    """Whether any user may reach a file."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def open_python() -> Path | None:
    """This Python, or the system's own of the same version where this one lives in a closed home directory."""
    system = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    return next((path for path in (Path(sys.executable), system) if path.exists() and is_open(path)), None)


async def gone(pid: int) -> None:
    """Raises: TimeoutError when the process lives on."""
    async with asyncio.timeout(WAIT_S):
        while is_alive(pid):  # noqa: ASYNC110  # the kernel sets no event of ours
            await asyncio.sleep(0.01)


def forbid_namespaces() -> None:
    """Make this process root of a user namespace that allows no further one, as some containers do.

    All users are mapped to themselves, which only the outside may write: a child stays there for that.
    """
    me = os.getpid()
    (wait, entered), (done, mapped) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.read(wait, 1)
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{me}/{kind}").write_text("0 0 65536")
        os.write(mapped, b".")
        os._exit(0)
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(entered, b".")
    os.read(done, 1)
    os.wait()
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


async def main(data_dir: Path) -> None:
    try:
        async with embedded_postgres(data_dir) as url:
            print(url, flush=True)
            await asyncio.to_thread(sys.stdin.read)
    except WattosError as exc:
        sys.exit(f"{type(exc).__name__}: {exc.message}")


if __name__ == "__main__":
    if "--without-namespaces" in sys.argv:
        forbid_namespaces()
    asyncio.run(main(Path(sys.argv[1])))
