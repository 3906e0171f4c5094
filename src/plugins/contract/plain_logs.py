"""What remains of structured logs while the observability plugin is off: plain lines, as discreet as the others."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

from plugins.contract.failure import describe
from plugins.contract.loggers import LineHandler, Takeover
from plugins.contract.redaction import Redactor


class PlainLogs(LineHandler):
    """The `Logs` port: `2026-11-23 15:00:00,000 INFO app: text`, written where it is made, from info upwards."""

    def __init__(self) -> None:
        super().__init__()
        self._takeover = Takeover(self, logging.INFO)
        self._redactor = Redactor()
        self.formatter = _DiscreetFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def install(self) -> None:
        self._takeover.install()

    def uninstall(self) -> None:
        """For tests."""
        self._takeover.uninstall()

    def start(self) -> None:
        self.install()

    def stop(self) -> None:
        pass

    def conceal(self, secrets: Iterable[str]) -> None:
        self._redactor.conceal(secrets)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self._redactor.text(self.format(record)) + "\n")
            sys.stdout.flush()
        except Exception:  # noqa: BLE001  # a broken pipe or a broken record: never the caller's problem
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        """Nothing: the stock handler would print the record, arguments and all."""


class _DiscreetFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Without `exc_text`, in which another handler may have left the stock text of an exception, values and all."""
        line = f"{self.formatMessage(self._with_message(record))}"
        exc = record.exc_info[1] if record.exc_info else None
        return line if exc is None else f"{line}\n{describe(exc)['stack']}"

    def _with_message(self, record: logging.LogRecord) -> logging.LogRecord:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        return record
