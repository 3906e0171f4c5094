"""Log records as pino writes them: one JSON object a line, so that `pino-pretty` and its tools read ours.

Shape: https://getpino.io/#/docs/api (`level`, `time`, `pid`, `hostname`, `msg`), plus `context` and `reqId`.
"""

from __future__ import annotations

import json
import logging
import socket
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS, merge_record_extra
from pythonjsonlogger.msgspec import MsgspecFormatter

from plugins.observability.failure import describe

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that the current task works for; tasks started by it inherit it."""

_OWN_FIELDS = ("level", "time", "pid", "hostname", "context", "msg")
_RESERVED = frozenset((*RESERVED_ATTRS, *_OWN_FIELDS, "color_message", "litellm_redacted"))
"""Not to be shown as extra fields. The last two are marks of others: uvicorn's terminal codes, litellm's own filter."""
_HOSTNAME = socket.gethostname()


def pino_level(levelno: int) -> int:
    """Python's 10, 20, …, 50 to pino's 20, 30, …, 60; anything below DEBUG is pino's trace, 10."""
    return min(max(levelno // 10 * 10 + 10, 10), 60)


def python_level(name: str) -> int:
    """Of a `LOG_LEVEL`. trace is 5, as uvicorn has it."""
    levels = {"trace": 5, "warn": logging.WARNING, "fatal": logging.CRITICAL}
    return levels.get(name) or logging.getLevelNamesMapping()[name.upper()]


class PinoFormatter(MsgspecFormatter):
    """`context` is the logger's name, `err` what `failure.describe` says; fields given with `extra` follow."""

    def __init__(self) -> None:
        super().__init__(json_default=_type_name)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["level"] = pino_level(record.levelno)
        log_data["time"] = int(record.created * 1000)
        log_data["pid"] = record.process
        log_data["hostname"] = _HOSTNAME
        log_data["context"] = record.name
        log_data["msg"] = record.message or message_dict.pop("msg", "")
        if record.exc_info and record.exc_info[1] is not None:
            log_data["err"] = describe(record.exc_info[1])
        message_dict.pop("exc_info", None)  # the stock text, which may quote `str(exc)` if another handler made it
        for key, value in message_dict.items():
            log_data.setdefault(key, value)
        merge_record_extra(record, log_data, reserved=_RESERVED)

    def formatException(self, ei: object) -> str:  # noqa: N802  # logging's own name
        """Nothing: the stock text quotes `str(exc)`. `add_fields` says what may be said."""
        return ""

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        try:
            return super().jsonify_log_record(log_data)
        except (ValueError, TypeError, OverflowError):  # lone surrogates, odd keys, integers over 64 bits
            return json.dumps(log_data, default=_type_name, skipkeys=True)


def _type_name(value: object) -> str:
    return f"<{type(value).__qualname__}>"
