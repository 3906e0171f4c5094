"""What is said about one request: its id, its loggable url, its line in the log, its metrics. Knows no Litestar."""

from __future__ import annotations

import logging
import os
import random
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

from plugins.contract.ids import shown_id
from plugins.contract.ports import Meter, SlowLog
from plugins.contract.principal import Principal
from plugins.contract.redaction import Redactor
from plugins.contract.work import Work

LOGGER = logging.getLogger("wattos.http")
UNMATCHED = "unmatched"
"""`route` of a request that no route took: one label value, whatever paths a scanner tries."""

OTHER = "other"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
"""RFC 9110 and 5789. Whatever else stands in a request's first line is `other`, in metrics and log alike."""

CLIENT_CLOSED_REQUEST = 499
"""nginx' status for a client that left before there was an answer: no other code says it."""

OVERHEAD_BUCKETS_MS = (0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500)
"""From a call passed through to one that searched documents first."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_METHODS = frozenset(METHODS)
_MAX_URL_CHARACTERS = 1024  # enough for any of our routes; a scanner's would fill the disk
_BLANK = dict(logging.LogRecord(LOGGER.name, logging.INFO, "", 0, "", None, None).__dict__)
"""What other handlers may look for in a record."""

_ids = random.Random(secrets.randbits(256))  # noqa: S311
"""Unique, not secret: asking the system each time lets go of the interpreter's lock (5 µs a request under load)."""

_redactor = Redactor()
"""For what a caller made up; what the process must conceal is known to the log output's own."""


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's `x-request-id` when it is well-formed and no secret by its looks, else 128 fresh random bits."""
    for name, value in headers:
        if name == b"x-request-id":  # ASGI: names come in lower case
            if _REQUEST_ID.fullmatch(value) and _redactor.text(given := value.decode("ascii")) == given:
                return given
            break
    return f"{_ids.getrandbits(128):032x}"


def loggable_url(path: str, query: bytes) -> str:
    """Path and names of the query's parameters: never their values, nor anything that looks like a secret, even when
    it is percent-encoded."""
    url = path
    if "%" in path:
        decoded = unquote_to_bytes(path).decode("utf-8", "replace")
        redacted = _redactor.text(decoded)
        url = path if redacted == decoded else redacted
    if query:
        pairs = query.decode("latin-1").split("&")
        url += "?" + "&".join(pair.partition("=")[0] + "=" if "=" in pair else "…" for pair in pairs[:32])
    return _redactor.text(url)[:_MAX_URL_CHARACTERS]


class ObservedRequest(Work):
    """One request from its first byte to its last. `status` is None until the response starts."""

    __slots__ = (
        "answered_s",
        "err",
        "finished",
        "method",
        "remote_address",
        "request_id",
        "started_s",
        "status",
        "url",
    )

    def __init__(self, *, request_id: str, method: str, url: str, remote_address: str | None) -> None:
        super().__init__({"reqId": request_id})
        self.request_id = request_id
        self.method = method if method in _METHODS else OTHER
        self.url = url
        self.remote_address = remote_address
        self.started_s = time.perf_counter()
        self.answered_s: float | None = None
        self.status: int | None = None
        self.err: Mapping[str, str] | None = None
        self.finished = False
        self.has_line = True


class RequestReport:
    """Writes the line and counts, once a request, at its end."""

    def __init__(self, meter: Meter, slow_log: SlowLog) -> None:
        self._slow_log = slow_log
        self._count = meter.counter(
            "http_requests_total",
            "HTTP requests answered, those that were broken off too.",
            ("method", "route", "status"),
        )
        self._duration_ms = meter.histogram(
            "http_request_duration_ms",
            "Milliseconds from the request's head to the last byte of its response.",
            ("method", "route"),
        )
        self._overhead_ms = meter.histogram(
            "gateway_overhead_ms",
            "Milliseconds of a model call that are ours: from the request's head to the response's, or a stream's first"
            " token, minus the time spent on waiting for targets (failed ones and retries' pauses included). litellm's"
            " own work is ours; the time of its HTTP client counts as waiting.",
            ("route",),
            buckets=OVERHEAD_BUCKETS_MS,
        )

    def finish(
        self, request: ObservedRequest, *, status: int, route: str | None, principal: object, aborted: bool = False
    ) -> None:
        """`route`: its template, None when no route matched. `aborted`: the client left, or the stream broke."""
        now_s = time.perf_counter()
        response_time_ms = (now_s - request.started_s) * 1000
        until_answer_ms = ((request.answered_s or now_s) - request.started_s) * 1000
        label = route or UNMATCHED
        self._count.add(1, request.method, label, str(status))
        self._duration_ms.observe(response_time_ms, request.method, label)
        if request.n_waits:
            self._overhead_ms.observe(max(0.0, until_answer_ms - request.waited_s * 1000), label)
        self._slow_log.took("request", f"{request.method} {label}", until_answer_ms)
        level = logging.ERROR if status >= 500 or (aborted and request.err) else logging.INFO
        request.has_line = False
        if LOGGER.isEnabledFor(level):
            LOGGER.handle(_record(request, level, status, label, principal, response_time_ms, aborted))


def _record(
    request: ObservedRequest,
    level: int,
    status: int,
    route: str,
    principal: object,
    response_time_ms: float,
    aborted: bool,
) -> logging.LogRecord:
    """Made by hand: `Logger.log` would walk the stack for a caller that is always the same, and even the record's own
    constructor takes apart the empty path (2 µs)."""
    who = principal if isinstance(principal, Principal) else None
    message = "request errored" if level == logging.ERROR else "request aborted" if aborted else "request completed"
    record = logging.LogRecord.__new__(logging.LogRecord)
    fields = record.__dict__
    fields |= _BLANK
    fields |= request.fields
    fields["levelno"] = level
    fields["levelname"] = logging.getLevelName(level)
    fields["msg"] = message
    fields["created"] = time.time()
    fields["process"] = os.getpid()
    fields["req"] = {
        "method": request.method,
        "url": request.url,
        "route": route,
        "tenant": request.fields.get("tenant"),
        "user": shown_id("user", who.user_id) if who and who.user_id else None,
        "keyId": shown_id("key", who.key_id) if who and who.key_id else None,
        "remoteAddress": request.remote_address,
    }
    fields["res"] = {"statusCode": status}
    fields["responseTime"] = round(response_time_ms, 2)
    fields |= request.notes
    if aborted:
        fields["aborted"] = True
    if request.err is not None:
        fields["err"] = request.err if level == logging.ERROR else _without_frames(request.err)
    return record


def _without_frames(err: Mapping[str, str]) -> Mapping[str, str]:
    """What a client did wrong needs no stack of ours: its first line is left."""
    return {**err, "stack": err["stack"].partition("\n")[0]}
