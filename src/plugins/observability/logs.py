"""The process's log output: every logger's records as JSON lines on standard output, which a thread of its own writes.

The event loop renders its own records, some at a time: in another thread that would cost it the interpreter's lock and
warm caches, a tenth of a call (measured). It stays installed after `stop`, because the server's last lines come after
the lifespan; `uninstall` undoes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sys
import threading
from collections.abc import Iterable
from typing import TextIO, TypeAlias

from plugins.contract.loggers import LineHandler, Takeover
from plugins.contract.nulls import NullInstrument
from plugins.contract.ports import Counter
from plugins.contract.redaction import Redactor
from plugins.contract.work import current_work
from plugins.observability.pino import PinoFormatter
from plugins.observability.uncaught import Uncaught

Texts: TypeAlias = "queue.SimpleQueue[tuple[str, int] | None]"  # lines, and how many; None ends the thread

GATHER_S = 0.05
"""The event loop renders its records this often. A line is this late at most (later where the loop is), and this much
is lost with SIGKILL."""

BATCH = 50
"""Records rendered at once: 1 ms, in which the event loop does nothing else."""


class LogOutput(LineHandler):
    """The `Logs` port. Before `start` and after `stop`, records are written where they are made."""

    def __init__(
        self,
        level: int,
        *,
        capacity: int,
        drain_timeout_s: float,
        stream: TextIO | None = None,
        dropped: Counter | None = None,
    ) -> None:
        """`stream` None: whatever `sys.stdout` is at the time of writing. `capacity`: records that may wait."""
        super().__init__()
        self._held: list[logging.LogRecord] = []
        """Of the event loop: not rendered yet."""
        self._texts: Texts = queue.SimpleQueue()  # costs a third of a bounded `Queue`; `emit` keeps the bound
        self._n_waiting = 0
        """Lines in there."""
        self._counting = threading.Lock()
        self._capacity = capacity
        self._drain_timeout_s = drain_timeout_s
        self._stream = stream
        self._dropped: Counter = dropped or NullInstrument()
        self._redactor = Redactor()
        self._format = PinoFormatter(self._redactor).format
        self._takeover = Takeover(self, level)
        self._uncaught = Uncaught()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0

    def install(self) -> None:
        self._takeover.install()

    def uninstall(self) -> None:
        """Put every logger back as `install` found it."""
        self._takeover.uninstall()

    def start(self) -> None:
        """A slow reader of our standard output then never holds up the event loop, if one runs here."""
        self.install()
        self._uncaught.install()
        if self._thread is None:
            with contextlib.suppress(RuntimeError):
                self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
            self._thread = threading.Thread(target=self._write_waiting, name="log-output", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write what waits, at most `drain_timeout_s`."""
        self._uncaught.uninstall()
        thread, self._thread = self._thread, None
        self._loop, self._loop_thread = None, 0
        if thread is not None:
            self._render_held()
            self._texts.put(None)
            thread.join(self._drain_timeout_s)  # when nobody reads, the daemon thread ends with the process

    def conceal(self, secrets: Iterable[str]) -> None:
        self._redactor.conceal(secrets)

    def createLock(self) -> None:  # noqa: N802  # logging's own name
        """None: the queue is safe by itself."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        if self.filters and not self.filter(record):
            return False
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            prepared = self._prepared(record)
            if self._thread is None:
                self._write(*self._rendered([prepared]))
            elif len(self._held) + self._n_waiting >= self._capacity:
                self._dropped.add()
            elif self._loop is not None and threading.get_ident() == self._loop_thread and not self._loop.is_closed():
                self._held.append(prepared)
                if len(self._held) == 1:
                    self._loop.call_later(GATHER_S, self._render_held)
            else:
                self._hand_over(*self._rendered([prepared]))
        except Exception:  # noqa: BLE001  # a record that cannot be rendered is never the caller's problem
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        """A line that cannot be written is counted. The stock handler would print it, arguments and all, on stderr."""
        self._dropped.add()

    def _prepared(self, record: logging.LogRecord) -> logging.LogRecord:
        """What only the emitting task knows is settled here: what it works for, its arguments' text."""
        if record.args:  # other handlers may want them: a copy
            text = record.getMessage()
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = text, None
        work = current_work()
        if work is not None:
            record.__dict__.update(work.fields)
        return record

    def _render_held(self) -> None:
        """A batch now, and others in the loop's next turns; all of it once the loop is nobody's."""
        while self._held:
            batch, self._held = self._held[:BATCH], self._held[BATCH:]
            has_more = bool(self._held)  # before the rendering, which may log too
            self._hand_over(*self._rendered(batch))
            if self._loop is not None:
                if has_more:
                    self._loop.call_soon(self._render_held)
                return

    def _rendered(self, records: list[logging.LogRecord]) -> tuple[str, int]:
        """Their lines, and how many."""
        lines: list[str] = []
        for record in records:
            try:
                lines.append(self._format(record) + "\n")
            except Exception:  # noqa: BLE001  # a broken record costs its own line only
                self.handleError(record)
        return "".join(lines), len(lines)

    def _hand_over(self, text: str, n_lines: int) -> None:
        with self._counting:
            self._n_waiting += n_lines
        self._texts.put((text, n_lines))

    def _write_waiting(self) -> None:
        while (waiting := self._texts.get()) is not None:
            text, n_lines = waiting
            with self._counting:
                self._n_waiting -= n_lines
            self._write(text, n_lines)

    def _write(self, text: str, n_lines: int) -> None:
        try:
            stream = self._stream or sys.stdout
            stream.write(text)
            stream.flush()
        except Exception:  # noqa: BLE001  # a broken pipe: never the request's problem
            self._dropped.add(n_lines)
