"""The process's log output: every logger's records as JSON lines on standard output, written by a thread of its own.

It stays installed after `stop`, because the server's last lines come after the lifespan; `uninstall` undoes it.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Iterable
from typing import TextIO, TypeAlias

from plugins.contract.loggers import LineHandler, Takeover
from plugins.contract.nulls import NullInstrument
from plugins.contract.ports import Counter
from plugins.contract.redaction import Redactor
from plugins.contract.work import current_work
from plugins.observability.pino import PinoFormatter
from plugins.observability.uncaught import Uncaught

Records: TypeAlias = "queue.SimpleQueue[logging.LogRecord | None]"  # None ends the thread

GATHER_S = 0.05
"""The writer's pause between two looks. Every look costs the event loop the interpreter's lock and warm caches: a tenth
of a plain call at 0.01, a third of that at 0.05 (measured). A line is this late at most, and this much is lost with
SIGKILL."""

BATCH = 50
"""Records written at once: 1 ms of formatting, in which the event loop waits for the interpreter's lock."""


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
        self._records: Records = queue.SimpleQueue()  # costs a third of a bounded `Queue`; `emit` keeps the bound
        self._capacity = capacity
        self._drain_timeout_s = drain_timeout_s
        self._stream = stream
        self._dropped: Counter = dropped or NullInstrument()
        self._redactor = Redactor()
        self._format = PinoFormatter(self._redactor).format
        self._takeover = Takeover(self, level)
        self._uncaught = Uncaught()
        self._thread: threading.Thread | None = None

    def install(self) -> None:
        self._takeover.install()

    def uninstall(self) -> None:
        """Put every logger back as `install` found it."""
        self._takeover.uninstall()

    def start(self) -> None:
        """A slow reader of our standard output then never holds up the event loop."""
        self.install()
        self._uncaught.install()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_waiting, name="log-output", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write what waits, at most `drain_timeout_s`."""
        self._uncaught.uninstall()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._records.put(None)
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
                self._write([prepared])
            elif self._records.qsize() < self._capacity:
                self._records.put(prepared)
            else:
                self._dropped.add()
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

    def _write_waiting(self) -> None:
        batch: list[logging.LogRecord | None] = []
        while None not in batch:
            if len(batch) < BATCH:  # else there is more already
                batch = [self._records.get()]
                time.sleep(GATHER_S)
            else:
                batch = []
            while len(batch) < BATCH and not self._records.empty():
                batch.append(self._records.get())
            self._write([record for record in batch if record is not None])

    def _write(self, records: list[logging.LogRecord]) -> None:
        lines: list[str] = []
        for record in records:
            try:
                lines.append(self._format(record) + "\n")
            except Exception:  # noqa: BLE001  # a broken record costs its own line only
                self.handleError(record)
        try:
            stream = self._stream or sys.stdout
            stream.write("".join(lines))
            stream.flush()
        except Exception:  # noqa: BLE001  # a broken pipe: never the request's problem
            for record in records:
                self.handleError(record)
