"""What is said about one request: its id, its loggable url, its line in the log, its two metrics. Knows no Litestar."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping

from plugins.contract.ports import Meter
from plugins.contract.principal import Principal

LOGGER = logging.getLogger("wattos.http")
UNMATCHED = "unmatched"
"""`route` of a request that no route took: one label value, whatever paths a scanner tries."""

CLIENT_CLOSED_REQUEST = 499
"""nginx' status for a client that left before there was an answer: no other code says it."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))
_SECRET = re.compile(r"sk-[A-Za-z0-9_-]{8,}")
_MAX_URL_CHARACTERS = 1024  # enough for any of our routes; a scanner's would fill the disk


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's `x-request-id` when it is well-formed, else 128 fresh random bits in hex."""
    given = next((value for name, value in headers if name.lower() == b"x-request-id"), b"")
    return given.decode("ascii") if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def loggable_url(path: str, query: bytes) -> str:
    """Path and names of the query's parameters: never their values, nor anything that looks like a key."""
    url = path
    if query:
        pairs = query.decode("latin-1").split("&")
        url += "?" + "&".join(pair.partition("=")[0] + "=" if "=" in pair else "…" for pair in pairs[:32])
    return _SECRET.sub("sk-…", url)[:_MAX_URL_CHARACTERS]


class ObservedRequest:
    """One request from its first byte to its last. `status` is None until the response starts."""

    __slots__ = ("err", "finished", "method", "remote_address", "request_id", "started_s", "status", "url")

    def __init__(self, *, request_id: str, method: str, url: str, remote_address: str | None) -> None:
        self.request_id = request_id
        self.method = method
        self.url = url
        self.remote_address = remote_address
        self.started_s = time.perf_counter()
        self.status: int | None = None
        self.err: Mapping[str, str] | None = None
        self.finished = False


class RequestReport:
    """Writes the line and counts, once a request, at its end."""

    def __init__(self, meter: Meter) -> None:
        self._count = meter.counter("http_requests_total", "HTTP requests answered.", ("method", "route", "status"))
        self._duration_ms = meter.histogram(
            "http_request_duration_ms",
            "Milliseconds from the request to the last byte of its response.",
            ("method", "route"),
        )

    def finish(
        self, request: ObservedRequest, *, status: int, route: str | None, principal: object, aborted: bool = False
    ) -> None:
        """`route`: its template, None when no route matched. `aborted`: the client left, or the stream broke."""
        response_time_ms = (time.perf_counter() - request.started_s) * 1000
        label = route or UNMATCHED
        method = request.method if request.method in _METHODS else "other"
        self._count.add(1, method, label, str(status))
        self._duration_ms.observe(response_time_ms, method, label)
        level = logging.ERROR if status >= 500 or (aborted and request.err) else logging.INFO
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
    """Made by hand: `Logger.log` would walk the stack for a caller that is always the same."""
    who = principal if isinstance(principal, Principal) else None
    message = "request errored" if level == logging.ERROR else "request aborted" if aborted else "request completed"
    record = logging.LogRecord(LOGGER.name, level, "", 0, message, None, None)
    fields: dict[str, object] = {
        "reqId": request.request_id,
        "req": {
            "method": request.method,
            "url": request.url,
            "route": route,
            "tenant": _text(who and who.tenant_id),
            "user": _text(who and who.user_id),
            "keyId": _text(who and who.key_id),
            "remoteAddress": request.remote_address,
        },
        "res": {"statusCode": status},
        "responseTime": round(response_time_ms, 2),
    }
    if aborted:
        fields["aborted"] = True
    if request.err is not None:
        fields["err"] = request.err if level == logging.ERROR else _without_frames(request.err)
    record.__dict__.update(fields)
    return record


def _without_frames(err: Mapping[str, str]) -> Mapping[str, str]:
    """What a client did wrong needs no stack of ours: its first line is left."""
    return {**err, "stack": err["stack"].partition("\n")[0]}


def _text(value: object) -> str | None:
    return None if value is None else str(value)
