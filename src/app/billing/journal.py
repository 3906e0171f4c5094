"""An append-only journal in files of this process: what is written survives a SIGKILL, for `write` has handed it over.

    DATA_DIR/journal/<process>/lock        held with flock for as long as the process lives
    DATA_DIR/journal/<process>/000001.log  frames of intents and entries, in order; later files go on

Whoever can take the lock may replay the journal: its process is dead. The directory appears under its name only once
it is locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections import deque
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

from app.billing.frames import framed
from app.billing.model import LedgerEntry, Record

logger = logging.getLogger("billing")

SEGMENT_BYTES = 4 << 20
"""Then a new file is begun, so that old ones can go: some 15,000 calls."""

MAX_HELD = 10_000
"""Entries kept in memory while the disk takes none: 5 MB."""


class Journal:
    """For one event loop. `append` never raises: a full disk must not fail a call that was answered."""

    def __init__(self, root: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._root = root
        self._segment_bytes = segment_bytes
        self._lock: int | None = None
        self._file: int | None = None
        self._size_bytes = 0
        self._number = 0
        self._is_failing = False
        self.folder = root
        self.held: deque[LedgerEntry] = deque(maxlen=MAX_HELD)
        """Entries that could not be written."""

    def open(self) -> None:
        """Raises: OSError."""
        name = uuid4().hex
        made = self._root / f".{name}"
        made.mkdir(parents=True, mode=0o700)
        self._lock = os.open(made / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.folder = made.rename(self._root / name)
        self._begin_segment()

    @property
    def current(self) -> int:
        """Number of the file that is being written."""
        return self._number

    def append(self, record: Record) -> None:
        """On disk, as far as this process is concerned, when it returns: 4 µs."""
        if self._file is None:
            self._hold(record)
            return
        frame = framed(record)
        try:
            if self._size_bytes and self._size_bytes + len(frame) > self._segment_bytes:
                self._begin_segment()
            if os.write(self._file, frame) != len(frame):
                raise OSError("the disk took a part")
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size_bytes)  # half a record would hide all after it
            if not self._is_failing:
                logger.warning("the journal cannot be written, calls are held in memory: %s", exc)
            self._is_failing = True
            self._hold(record)
            return
        self._is_failing = False
        self._size_bytes += len(frame)

    def close(self, *, remove: bool) -> None:
        """`remove`: everything in it was moved. Otherwise the next process replays it."""
        for fd in (self._file, self._lock):
            if fd is not None:
                os.close(fd)
        self._file = self._lock = None
        if remove:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _hold(self, record: Record) -> None:
        if isinstance(record, LedgerEntry):
            self.held.append(record)

    def _begin_segment(self) -> None:
        path = segment(self.folder, self._number + 1)
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._file is not None:
            os.close(self._file)
        self._file, self._size_bytes = file, 0
        self._number += 1


def segment(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.log"


@contextlib.contextmanager
def dead_journal(folder: Path) -> Generator[bool]:
    """Hold a journal whose process is dead. Gives: False while that lives, or when another has replayed it."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield folder.is_dir()
    finally:
        os.close(lock)
