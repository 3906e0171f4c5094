"""One handler gets every line of the process. Logging is process-wide by nature: whoever took it last has it."""

from __future__ import annotations

import logging
from logging.handlers import QueueHandler

_TAKEN_OVER = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access")
"""Loggers that bring handlers of their own. `uvicorn.access` is silenced: the request log says it better."""

_LEVEL_OF_CHATTY = logging.WARNING
_CHATTY = ("asyncio", "httpx", "httpcore", "LiteLLM")
"""At info these write a line a call; httpx writes whole urls, query values included."""

OWN = (
    *(
        "app",
        "billing",
        "chat",
        "database",
        "files",
        "http",
        "idempotency",
        "ingestion",
        "jobs",
        "llm",
        "metrics",
        "plugins",
    ),
    *("process", "resilience", "runtime", "security", "server", "upkeep", "wattos"),
)
"""What our loggers' names begin with. They alone write below info: at debug vendors' libraries write whole prompts."""


class LineHandler(logging.Handler):
    """Writes the process's lines: what takes over removes the one before."""


class Takeover:
    """Gives all loggers' lines to one handler, Python's own warnings too."""

    def __init__(self, handler: LineHandler, level: int) -> None:
        self._handler = handler
        self._level = level
        self._saved: list[tuple[logging.Logger, list[logging.Handler], bool, int]] = []

    def install(self) -> None:
        """Again does no harm: uvicorn configures its loggers after the app is built."""
        root = logging.getLogger()
        names = ("", *_TAKEN_OVER, *_CHATTY, *OWN)
        if not self._saved:
            loggers = [logging.getLogger(name) for name in names]
            self._saved = [(logger, [*logger.handlers], logger.propagate, logger.level) for logger in loggers]
        root.handlers = [self._handler, *(handler for handler in root.handlers if not _writes_lines(handler))]
        root.setLevel(max(self._level, logging.INFO))
        for name in OWN:
            logging.getLogger(name).setLevel(self._level)
        for name in _TAKEN_OVER:
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [], name != "uvicorn.access"
            logger.setLevel(logging.NOTSET)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(max(self._level, _LEVEL_OF_CHATTY))
        logging.captureWarnings(True)

    def uninstall(self) -> None:
        """Put every logger back as `install` found it."""
        for logger, handlers, propagate, level in self._saved:
            logger.handlers, logger.propagate = [h for h in handlers if not isinstance(h, LineHandler)], propagate
            logger.setLevel(level)
        self._saved = []
        logging.captureWarnings(False)


def _writes_lines(handler: logging.Handler) -> bool:
    """Another output to the console: ours, a stock one, or a queue in front of one, as Litestar's default brings it.
    Test captures and files are subclasses of the stock one, and stay."""
    return isinstance(handler, LineHandler | QueueHandler) or type(handler) is logging.StreamHandler
