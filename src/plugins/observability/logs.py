"""The process's log output: every logger's records as JSON lines on standard output, written by a thread of its own.

Logging is process-wide by nature: the last `LogOutput` installed has it, so several apps may live in one process.
It stays installed after `stop`, because the server's last lines come after the lifespan; `uninstall` undoes it.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from logging.handlers import QueueHandler
from typing import TextIO, TypeAlias

from plugins.contract.nulls import NullInstrument
from plugins.contract.ports import Counter
from plugins.observability.pino import PinoFormatter, request_id

Records: TypeAlias = "queue.SimpleQueue[logging.LogRecord | None]"  # None ends the thread

_TAKEN_OVER = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access")
"""Loggers that bring handlers of their own. `uvicorn.access` is silenced: the request log says it better."""

_LEVEL_OF_CHATTY = logging.WARNING
_CHATTY = ("asyncio", "httpx", "httpcore", "LiteLLM")
"""At info these write a line a call; httpx writes whole urls, query values included."""

_Saved = tuple[logging.Logger, list[logging.Handler], bool, int]


class LogOutput(QueueHandler):
    """`start` and `stop` belong to a lifespan; before and after, records are written where they are made."""

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
        self._records: Records = queue.SimpleQueue()  # costs a third of a bounded `Queue`; `enqueue` keeps the bound
        super().__init__(self._records)
        self._capacity = capacity
        self._threshold = level
        self._drain_timeout_s = drain_timeout_s
        self._stream = stream
        self._dropped: Counter = dropped or NullInstrument()
        self._format = PinoFormatter().format
        self._thread: threading.Thread | None = None
        self._saved: list[_Saved] = []

    def install(self) -> None:
        """Become the only log output. Again does no harm: uvicorn configures its loggers after the app is built."""
        root = logging.getLogger()
        names = ("", *_TAKEN_OVER, *_CHATTY)
        if not self._saved:
            loggers = [logging.getLogger(name) for name in names]
            self._saved = [(logger, [*logger.handlers], logger.propagate, logger.level) for logger in loggers]
        root.handlers = [self, *(handler for handler in root.handlers if not _writes_lines(handler))]
        root.setLevel(self._threshold)
        for name in _TAKEN_OVER:
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [], name != "uvicorn.access"
            logger.setLevel(logging.NOTSET)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(max(self._threshold, _LEVEL_OF_CHATTY))

    def uninstall(self) -> None:
        """Put every logger back as `install` found it."""
        for logger, handlers, propagate, level in self._saved:
            logger.handlers, logger.propagate = [h for h in handlers if not isinstance(h, LogOutput)], propagate
            logger.setLevel(level)
        self._saved = []

    def start(self) -> None:
        """Hand writing over to a thread: a slow reader of our standard output then never holds up the event loop."""
        self.install()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_waiting, name="log-output", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write what waits, at most `drain_timeout_s`. Blocks: call it in a thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._records.put(None)
            thread.join(self._drain_timeout_s)  # when nobody reads, the daemon thread ends with the process

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """What only the emitting task knows is settled here: its request id, its arguments' text."""
        if not record.args and "reqId" in record.__dict__:
            return record
        prepared = logging.makeLogRecord(record.__dict__)
        if record.args:
            prepared.msg, prepared.args = record.getMessage(), None
        if "reqId" not in prepared.__dict__ and (of := request_id.get()) is not None:
            prepared.__dict__["reqId"] = of
        return prepared

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._thread is None:
            self._write(record)
        elif self._records.qsize() < self._capacity:
            self._records.put(record)
        else:
            self._dropped.add()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        """A line that cannot be written is counted. The stock handler would print it, arguments and all, on stderr."""
        self._dropped.add()

    def _write_waiting(self) -> None:
        while (record := self._records.get()) is not None:
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        try:
            stream = self._stream or sys.stdout
            stream.write(self._format(record) + "\n")
            if self._records.empty():
                stream.flush()
        except Exception:  # noqa: BLE001  # a broken pipe or a broken record: never the request's problem
            self.handleError(record)


def _writes_lines(handler: logging.Handler) -> bool:
    """Another output to the console: ours, a stock one, or a queue in front of one, as Litestar's default brings it.
    Test captures and files are subclasses of the stock one, and stay."""
    return isinstance(handler, QueueHandler) or type(handler) is logging.StreamHandler
