"""Exceptions that nobody caught become log lines; Python's own hooks would print them, messages and all, on stderr."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

logger = logging.getLogger("process")


class Uncaught:
    """The hooks of the interpreter, while installed."""

    def __init__(self) -> None:
        self._is_installed = False

    def install(self) -> None:
        """Again does no harm."""
        if self._is_installed:
            return
        self._is_installed = True
        self._saved = sys.excepthook, threading.excepthook, sys.unraisablehook
        sys.excepthook = _in_main_thread
        threading.excepthook = _in_thread
        sys.unraisablehook = _unraisable

    def uninstall(self) -> None:
        if self._is_installed:
            self._is_installed = False
            sys.excepthook, threading.excepthook, sys.unraisablehook = self._saved


def _in_main_thread(kind: type[BaseException], exc: BaseException, _: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("uncaught exception", exc_info=exc)


def _in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        logger.error("uncaught exception in a thread", exc_info=args.exc_value)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        logger.error("exception where none can be raised", exc_info=args.exc_value)
