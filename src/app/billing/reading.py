"""A journal, followed from its beginning: intents and entries are paired, files that are done with can go."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from uuid import UUID

from app.billing.frames import Damaged, unframed
from app.billing.journal import segment
from app.billing.model import Intent, LedgerEntry, lost

logger = logging.getLogger("billing")

READ_BYTES = 256 * 1024
"""At once: some 1,000 entries, 3 ms."""


class JournalReader:
    """Entries come out in the order in which they were written, once. To read a journal anew, make a new reader."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 1
        self._offset = 0
        self._oldest = 1
        """The first file that is still there."""
        self._open: dict[UUID, tuple[Intent, int]] = {}
        """Intents without an entry yet, each with its file."""

    @property
    def n_open(self) -> int:
        return len(self._open)

    def read(self, current: int) -> list[LedgerEntry]:
        """The next entries; none when the file `current`, the last there is, is read to its end."""
        while True:
            data, is_whole = self._next_bytes()
            found: list[LedgerEntry] = []
            end = 0
            try:
                for record, behind in unframed(data):
                    end = behind
                    if isinstance(record, Intent):
                        self._open[record.id] = (record, self._number)
                    else:
                        self._open.pop(record.id, None)
                        found.append(record)
            except Damaged:
                is_whole = True
                if not found:  # else at the next turn, which begins with the damage
                    self._set_aside()
            self._offset += end
            if found:
                return found
            if end and not is_whole:
                continue
            if self._number >= current:
                return []
            self._number, self._offset = self._number + 1, 0

    def ended(self, call_id: UUID) -> None:
        """Its entry is not in the journal, and known nevertheless."""
        self._open.pop(call_id, None)

    def abandoned(self) -> list[LedgerEntry]:
        """What is entered of the calls that were under way when the journal's process died."""
        left = [lost(intent) for intent, _ in self._open.values()]
        self._open.clear()
        return left

    def remove_read(self) -> None:
        """Files read to their end, all of whose calls are over. To be called when what was read has been moved."""
        needed = self._number
        if self._oldest < needed:
            needed = min((number for _, number in self._open.values()), default=needed)
        while self._oldest < needed:
            segment(self._folder, self._oldest).unlink(missing_ok=True)
            self._oldest += 1

    def _next_bytes(self) -> tuple[bytes, bool]:
        """And whether they are the file's last for now."""
        try:
            file = os.open(segment(self._folder, self._number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b"", True
        try:
            data = os.pread(file, READ_BYTES, self._offset)
        finally:
            os.close(file)
        return data, len(data) < READ_BYTES

    def _set_aside(self) -> None:
        """For a person to look at: nothing behind the damage can be told apart."""
        path = segment(self._folder, self._number)
        kept = self._folder.parent / f".damaged-{self._folder.name}-{path.name}"
        logger.error("the journal %s is damaged at byte %d: it is kept as %s", path, self._offset, kept)
        with contextlib.suppress(OSError):
            os.link(path, kept)


def last_segment(folder: Path) -> int:
    """Of a journal that nobody writes any more; 0 when it is empty."""
    return max((int(path.stem) for path in folder.glob("*.log")), default=0)
