"""Log records as pino writes them: one JSON object a line, so that `pino-pretty` and its tools read ours.

Shape: https://getpino.io/#/docs/api (`level`, `time`, `pid`, `hostname`, `msg`), plus `context` and what the line is
about (`reqId`, `tenant`, `jobId`). Every text in a line goes through the redactor.
"""

from __future__ import annotations

import json
import logging
import re
import socket
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter

from plugins.contract.failure import describe
from plugins.contract.redaction import Redactor

_OWN_FIELDS = ("level", "time", "pid", "hostname", "context", "msg")
_OTHERS = ("color_message", "litellm_redacted")
"""Not to be shown: marks of others, uvicorn's terminal codes and litellm's own filter."""

_RESERVED = frozenset((*RESERVED_ATTRS, *_OWN_FIELDS, *_OTHERS, "message", "asctime", "taskName"))
_FRESH_ID = re.compile(r"[0-9a-f]{32}")
"""A request's id, if the caller gave none: each is new, so remembering it as clean would help nobody (4 µs a line)."""

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

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(json_default=_type_name)  # pyright: ignore[reportUnknownMemberType]  # its arguments are untyped
        self._redactor = redactor

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        redactor = self._redactor
        log_data["level"] = pino_level(record.levelno)
        log_data["time"] = int(record.created * 1000)
        log_data["pid"] = record.process
        log_data["hostname"] = _HOSTNAME
        log_data["context"] = redactor.text(record.name)
        log_data["msg"] = redactor.text(str(record.message or message_dict.pop("msg", "")))
        if record.exc_info and record.exc_info[1] is not None:
            log_data["err"] = redactor.value(describe(record.exc_info[1]))
        message_dict.pop("exc_info", None)  # the stock text, which may quote `str(exc)` if another handler made it
        for fields in (message_dict, record.__dict__):
            for key, value in fields.items():
                if key in _RESERVED:
                    continue
                if key == "reqId" and type(value) is str and _FRESH_ID.fullmatch(value):
                    log_data[key] = redactor.known(value)
                elif key not in log_data and not key.startswith("_"):
                    log_data[redactor.text(key)] = redactor.value(value, key)

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
