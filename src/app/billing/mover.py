"""Moves the journal to the ledger in the database: within 200 ms, each entry once, and after a crash too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

from app.billing import store
from app.billing.budgets.reservations import Reservations
from app.billing.budgets.store import end_leases
from app.billing.journal import Journal, dead_journal
from app.billing.model import LedgerEntry, time_of
from app.billing.reading import JournalReader, last_segment
from app.database.engine import Database, Role
from plugins.contract.errors import RetryableError

logger = logging.getLogger("billing")

EVERY_S = 0.1
"""Half of what is promised: the other half is the statement's."""

MANY = 500
"""Entries at once, after which more may wait already. Fewer can wait for the next turn: a transaction costs 3 ms of
CPU, whether it enters ten or a hundred."""

AGAIN_S = 1.0
"""After the database was away."""

REPLAY_EVERY_S = 10.0
"""Dead processes' journals are looked for: costs one listing of a directory."""

DRAIN_S = 3.0
"""At the end. What is not moved by then, the next process moves."""


class Mover:
    """Follows this process's journal, and takes over those of dead ones."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        root: Path,
        reservations: Reservations,
        on_charged: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_charged` hears that entries have spent of budgets."""
        self._database = database
        self._journal = journal
        self._root = root
        self._reservations = reservations
        self._on_charged = on_charged
        self._reader: JournalReader | None = None
        self._batch: list[LedgerEntry] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._months: set[datetime] = set()

    def start(self) -> None:
        """The journal is open."""
        self._reader = JournalReader(self._journal.folder)
        self._tasks = [
            asyncio.create_task(self._repeat(self._move, EVERY_S), name="ledger-move"),
            asyncio.create_task(self._repeat(self.replay, REPLAY_EVERY_S), name="ledger-replay"),
        ]

    async def stop(self) -> None:
        """Move what is left, and close the journal."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        is_moved = False
        try:
            async with asyncio.timeout(DRAIN_S):
                while await self._move_some():
                    pass
                is_moved = True
        except (TimeoutError, RetryableError):
            logger.warning("the database is away: the journal is left for the next process")
        except Exception:
            logger.exception("the journal is left for the next process")
        is_whole = is_moved and self._reader is not None and not self._reader.n_open
        if is_whole:
            with contextlib.suppress(RetryableError):  # then its leases lapse
                await self._end_leases(self._journal.folder.name)
        self._journal.close(remove=is_whole)

    async def _repeat(self, act: Callable[[], Awaitable[object]], every_s: float) -> None:
        while True:
            pause_s = every_s
            try:
                await act()
            except RetryableError:
                pause_s = max(every_s, AGAIN_S)
            except Exception:  # a bug must not stop accounting for ever
                logger.exception("moving the journal failed")
                pause_s = max(every_s, AGAIN_S)
            await asyncio.sleep(pause_s)

    async def _move(self) -> None:
        """What is there. Raises: RetryableError; the entries at hand are then tried again."""
        while await self._move_some() >= MANY:
            pass

    async def _move_some(self) -> int:
        """Returns: how many were there; none at the journal's end. Raises: as `_move`."""
        assert self._reader is not None
        if not self._batch:
            self._batch = self._reader.read(self._journal.current)
            while self._journal.held:
                held = self._journal.held.popleft()
                self._reader.ended(held.id)
                self._batch.append(held)
        n_entries = len(self._batch)
        if n_entries:
            await self._enter(self._batch, self._enter_own)
            self._batch = []
            self._reader.remove_read()
        return n_entries

    async def replay(self) -> int:
        """The journals of dead processes. Returns: how many entries they had. Raises: RetryableError."""
        n_entries = 0
        for folder in sorted(path for path in self._root.iterdir() if path.is_dir() and path.name[0] != "."):
            with dead_journal(folder) as is_dead:
                if is_dead:
                    n_entries += await self._replay_one(folder)
        return n_entries

    async def _replay_one(self, folder: Path) -> int:
        reader, last, n_entries = JournalReader(folder), last_segment(folder), 0

        async def enter(entries: Sequence[LedgerEntry]) -> None:
            await self._enter_at_once(entries, folder.name)

        while entries := reader.read(last):
            await self._enter(entries, enter)
            n_entries += len(entries)
        if lost := reader.abandoned():
            await self._enter(lost, enter)
        await self._end_leases(folder.name)
        shutil.rmtree(folder, ignore_errors=True)
        logger.info("replayed a journal: %d entries, %d calls lost on the way", n_entries, len(lost))
        return n_entries + len(lost)

    async def _enter(
        self, entries: Sequence[LedgerEntry], enter: Callable[[Sequence[LedgerEntry]], Awaitable[None]]
    ) -> None:
        """Raises: RetryableError. An entry that the database does not take is logged, and does not hold up others."""
        try:
            await enter(entries)
        except RetryableError:
            raise
        except Exception:
            if len(entries) == 1:
                logger.exception("the ledger does not take call %s: %r", entries[0].id, entries[0])
                self._reservations.dropped(entries[0].id)
                return
            for entry in entries:
                await self._enter([entry], enter)

    async def _enter_own(self, entries: Sequence[LedgerEntry]) -> None:
        async with self._reservations.entering() as moved:
            moved([entry.id for entry in entries], await self._enter_at_once(entries, self._journal.folder.name))

    async def _enter_at_once(self, entries: Sequence[LedgerEntry], holder: str) -> store.Leases:
        """`holder`: the journal that they are from."""
        months = {_month(entry.id) for entry in entries} - self._months
        async with self._database.role(Role.LEDGER) as session:
            if months:
                await store.make_partitions(session, sorted(months))
            leases = await store.enter(session, entries, holder)
        self._months |= months
        if leases:
            self._on_charged()
        return leases

    async def _end_leases(self, holder: str) -> None:
        """All its calls are entered: what it had left of budgets is there for others. Raises: RetryableError."""
        async with self._database.role(Role.LEDGER) as session:
            await end_leases(session, holder)


def _month(call_id: UUID) -> datetime:
    return time_of(call_id).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
