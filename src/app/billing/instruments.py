"""What is measured of the ledger: the calls that are over, and what of them lies on this machine's disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from app.billing.model import LedgerEntry, Record
from plugins.contract.nulls import NullMeter
from plugins.contract.ports import Meter


class CountedJournal:
    """Takes records as a journal does, and counts them. The meter comes later: plugins give it."""

    def __init__(self, append: Callable[[Record], None], root: Path) -> None:
        self._append = append
        self._root = root
        self.observe_with(NullMeter())

    def observe_with(self, meter: Meter) -> None:
        self._entries = meter.counter(
            "ledger_entries_total", "Calls that are over, as they are written to the journal.", ("outcome",)
        )
        self._bytes = meter.gauge(
            "ledger_journal_bytes",
            "Size of the journals under DATA_DIR, dead processes' too. One that is moved in time has 4 MiB at most, and"
            " what was written while a long call went on; while the database is away it grows.",
        )
        meter.sample(self._sample)

    def append(self, record: Record) -> None:
        if isinstance(record, LedgerEntry):
            self._entries.add(1, record.outcome)
        self._append(record)

    async def _sample(self) -> None:
        self._bytes.set(await asyncio.to_thread(bytes_under, self._root))


def bytes_under(root: Path) -> int:
    """Of all journals. A file that goes meanwhile counts for nothing."""
    total = 0
    for path in root.glob("*/*.log"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total
