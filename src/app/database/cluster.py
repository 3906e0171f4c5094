"""One embedded cluster on disk: its paths, who owns it, and the server that runs on it. Starts and stops nothing.

A wattos process owns the cluster while it holds a lock on `owner.lock`. The kernel drops that lock when the process
dies, however it dies: so there is no guessing from pids whose server it is that still runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from app.database.errors import DatabaseUnfit

MAX_SOCKET_DIR_BYTES = 107 - len("/.s.PGSQL.5432")
"""Linux's sockaddr_un holds a path of 107 bytes and its end (unix(7))."""


class Cluster:
    """`data_dir` may be long and have spaces; the socket therefore lives in a short directory for its user alone."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "postgres"
        self.path = self.root / "cluster"
        self.log = self.root / "postgres.log"
        self._lock: IO[bytes] | None = None
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        self.socket_dir = _short_directory() / f"wattos-{os.geteuid()}-{digest}"

    def own(self) -> bool:
        """Take the cluster unless another live process has it. Returns: whether it is ours.

        Raises: DatabaseUnfit when the directory is somebody else's, or cannot be locked.
        """
        if self._lock is not None:
            return True
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / "owner.lock").open("ab")
        except OSError as exc:
            raise DatabaseUnfit(f"{self.root} cannot be written to ({exc.strerror}): choose another DATA_DIR") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        except OSError as exc:
            lock.close()
            raise DatabaseUnfit(f"{self.root} cannot be locked ({exc.strerror}): choose another DATA_DIR") from exc
        self._lock = lock
        return True

    def disown(self) -> None:
        """Leave it to others, and take the socket's directory away."""
        if self._lock is not None:
            shutil.rmtree(self.socket_dir, ignore_errors=True)
            self._lock.close()
            self._lock = None

    def exists(self) -> bool:
        return (self.path / "PG_VERSION").exists()

    def fresh_directory(self) -> Path:
        """Where to make a cluster before it is moved into place. What a killed process left of one is removed."""
        for leftover in self.root.glob("cluster.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix="cluster.", dir=self.root))

    def settle(self, fresh: Path) -> None:
        """Move a finished cluster into place, for good: until then a kill leaves no half one."""
        fresh.rename(self.path)
        directory = os.open(self.root, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def make_socket_dir(self) -> None:
        """Raises: DatabaseUnfit when somebody else has made one of that name."""
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        found = self.socket_dir.lstat()
        owners = {os.geteuid()}
        if os.geteuid() == 0 and self.path.exists():
            owners.add(self.path.stat().st_uid)  # the launcher gives it to whom the cluster belongs
        if found.st_uid not in owners or self.socket_dir.is_symlink() or not self.socket_dir.is_dir():
            raise DatabaseUnfit(f"{self.socket_dir} belongs to somebody else: remove it")
        self.socket_dir.chmod(0o700)

    def recorded_pid(self) -> int | None:
        """What `postmaster.pid` says. The file stays behind when the server is killed, and pids are used again."""
        line = self._postmaster(0)
        return int(line) if line.isdigit() else None

    def running_pid(self) -> int | None:
        """The pid of the live server of this cluster."""
        pid = self.recorded_pid()
        if pid is None or not is_alive(pid):
            return None
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return None
        return pid if os.fsencode(self.path) in command else None

    def is_ready(self) -> bool:
        """Whether the live server takes connections: it writes so into its file, as `pg_ctl` knows too."""
        return self._postmaster(7).strip() == "ready" and self.running_pid() is not None

    def running_socket_dir(self) -> Path:
        """Where the live server listens: its owner may have another TMPDIR than we."""
        return Path(self._postmaster(4).strip() or self.socket_dir)

    def last_words(self) -> str:
        """The end of the log, without its time stamp."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 2000))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        if not lines:
            return ""
        stamp, bracket, message = lines[-1].partition("] ")
        return message if bracket else stamp

    def _postmaster(self, line: int) -> str:
        """One line of `postmaster.pid`: pid, directory, start, port, socket directory, address, memory key, status."""
        try:
            return (self.path / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()[line]
        except (OSError, IndexError):
            return ""


def is_alive(pid: int) -> bool:
    """Whether a process runs: a dead one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def _short_directory() -> Path:
    chosen = Path(tempfile.gettempdir())
    room = MAX_SOCKET_DIR_BYTES - len(f"/wattos-{os.geteuid()}-") - 16
    return chosen if len(os.fsencode(chosen)) <= room else Path("/tmp")  # noqa: S108  # a private directory in it
