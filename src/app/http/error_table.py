"""The one table of everything that can go wrong over HTTP: code → status, and what the caller can do.

`docs/errors.md` is made from it, and `tests/api/test_errors_every.py` drives every row: a code that is answered and not
in here, or in here and never answered, fails there. Knows no framework: the parser's refusals need it before there is a
request.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from app.errors import InvalidRequest
from plugins.contract.errors import WattosError


class Row(msgspec.Struct, frozen=True):
    """One code. `retryable`: the same request may succeed later; if not, `x-should-retry: false` says so."""

    status: int
    meaning: str
    remedy: str
    retryable: bool = False
    kind: str = ""
    """OpenAI's `error.type`, where it does not follow from the status."""

    @property
    def openai_type(self) -> str:
        """`error.type`, by which OpenAI's clients and dashboards group."""
        if self.kind:
            return self.kind
        default = "invalid_request_error" if self.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        return _OPENAI_TYPES.get(self.status, default)


_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

TABLE: Mapping[str, Row] = {
    "invalid_request": Row(400, "A field has a wrong type or value; `param` names it.", "Correct the field."),
    "invalid_json": Row(400, "The body is not one JSON value in UTF-8, or nested too deeply.", "Send valid JSON."),
    "duplicate_key": Row(
        400,
        "An object of the body has a key twice; parsers disagree about which one counts.",
        "Send each key once; `param` names it.",
    ),
    "missing_field": Row(400, "A field that is needed is missing or empty.", "Add the field that `param` names."),
    "invalid_character": Row(400, "A text holds NUL, which cannot be stored.", "Remove the character."),
    "unsupported_parameter": Row(
        400, "The parameter is known and does nothing here yet.", "Leave out the field that `param` names."
    ),
    "wrong_model_kind": Row(
        400,
        "The model cannot do this: a chat model was asked for embeddings, or documents are embedded by another one.",
        "Choose from `GET /v1/models`.",
    ),
    "context_length_exceeded": Row(400, "More tokens than the model takes.", "Shorten the input."),
    "not_ingested": Row(
        400, "The file has no text (yet).", "Wait until its status is `completed`; if `failed`, read `last_error`."
    ),
    "empty_file": Row(400, "The uploaded file has no bytes.", "Send a file with content."),
    "weak_password": Row(
        400, "The password is easily guessed.", "At least 12 characters: no name, repetition or sequence."
    ),
    "address_refused": Row(
        400,
        "The address is not one that this server connects to: not public, or not https.",
        "Choose a public one, or ask the operator for OUTBOUND_ALLOWED_HOSTS.",
    ),
    "upstream_rejected": Row(
        400, "The model's vendor says that the request itself is wrong; the message has its words.", "Correct it."
    ),
    "content_policy_violation": Row(
        400,
        "The model's vendor refuses what the request says; the message has its words.",
        "Change it, or configure `content_policy_fallbacks`.",
    ),
    "malformed_http": Row(
        400,
        "The bytes are not a valid HTTP/1.1 request: a bad line, length or encoding. The connection is closed.",
        "Mend the client, or the proxy in between.",
    ),
    "websocket_unsupported": Row(
        400, "The request asks to become a WebSocket; there are none here.", "Use HTTP; answers stream with SSE."
    ),
    "invalid_api_key": Row(
        401,
        "No credential, or one that is unknown, expired or revoked.",
        "Send `Authorization: Bearer sk-wattos-…` with a valid key.",
    ),
    "sign_in_failed": Row(
        401,
        "Wrong tenant, e-mail address or password, or a refresh token that is not valid any more.",
        "Sign in again; after five failures the next tries must wait.",
    ),
    "permission_denied": Row(
        403,
        "The credential is valid and may not do this; the message names the permission that is needed.",
        "Use a key or a user that has it: a tenant's, or the administrator's.",
    ),
    "price_unknown": Row(
        403,
        "A budget counts money, and nobody knows the price of a model that this request may be answered by.",
        "The operator sets a price in MODELS_CONFIG, or who made the budget allows models without one.",
    ),
    "not_found": Row(404, "No such route, or no such thing for this tenant.", "Check path and id."),
    "model_not_found": Row(
        404, "No model with this name, or this key may not use it.", "Choose from `GET /v1/models`."
    ),
    "method_not_allowed": Row(405, "The path does not take this method.", "Use one that the header `allow` lists."),
    "request_timeout": Row(
        408,
        "Headers or body came too slowly (REQUEST_HEADER_TIMEOUT_S, REQUEST_BODY_TIMEOUT_S).",
        "Send it again, on a better line.",
        retryable=True,
    ),
    "conflict": Row(
        409, "The name is taken, or the state of the thing does not allow this.", "Choose another name, or look first."
    ),
    "idempotency_in_progress": Row(
        409,
        "The first request with this `Idempotency-Key` is still being done.",
        "Send it again after `retry-after` seconds, with the same key.",
        retryable=True,
    ),
    "idempotency_answer_not_kept": Row(
        409,
        "The request with this `Idempotency-Key` was done, but its answer was not kept: it was over 1 MiB, or the"
        " deployment's secret has changed since.",
        "Look at what it did before you send it with a new key.",
    ),
    "request_too_large": Row(
        413, "The body is over MAX_BODY_BYTES, or the file over MAX_FILE_BYTES.", "Send less at once."
    ),
    "uri_too_long": Row(414, "Path and query are over 8 KiB.", "Shorten them."),
    "unsupported_media_type": Row(
        415, "`content-type` or `content-encoding` says that the body is no JSON.", "Send `application/json`, plain."
    ),
    "invalid_models_config": Row(
        422,
        "The file of MODELS_CONFIG cannot be used; the message says where and why. The one loaded before stays.",
        "Mend the file, try it with `wattos config check`, and reload.",
    ),
    "invalid_value": Row(
        422, "A value is well-formed, and outside of what can be stored.", "Choose a value that is less extreme."
    ),
    "idempotency_key_reused": Row(
        422,
        "This `Idempotency-Key` was used here with another body or query in the last 24 hours. Nothing was done.",
        "Choose a new key for each request that is another one.",
    ),
    "sign_in_blocked": Row(
        429,
        "Too many failed sign-ins with this name or from this address.",
        "Wait for `retry-after` seconds: the right password is not looked at before.",
        retryable=True,
    ),
    "rate_limit_exceeded": Row(
        429,
        "A limit of requests or tokens a minute, or of calls at once, is used up; the message says whose and which.",
        "Wait for `retry-after` seconds, and ask more evenly; `x-ratelimit-…` says how limits stand.",
        retryable=True,
    ),
    "insufficient_quota": Row(
        429,
        "A budget has not enough left for this request; the message names it.",
        "Ask who set the budget, or wait for its next day or month.",
        kind="insufficient_quota",
    ),
    "upstream_rate_limited": Row(
        429,
        "The model's vendor asks for fewer calls.",
        "Wait for `retry-after` seconds, or configure a fallback.",
        retryable=True,
    ),
    "headers_too_large": Row(431, "The headers are over 64 KiB, or more than 100.", "Send fewer and shorter ones."),
    "internal_error": Row(
        500, "A bug in WattOS. The message has the request id and nothing else.", "Report it with the request id."
    ),
    "not_configured": Row(
        501, "The operator has not set what this needs; the message names the setting.", "Ask the operator."
    ),
    "upstream_error": Row(
        502, "The model's vendor failed in a way that has no better name.", "Try again.", retryable=True
    ),
    "upstream_unavailable": Row(
        502,
        "The model's vendor could not be reached, broke off or answered 5xx.",
        "Try again, or configure a fallback.",
        retryable=True,
    ),
    "upstream_misconfigured": Row(
        502,
        "The model's vendor refuses our key, bill, model or address.",
        "The operator mends MODELS_CONFIG or the vendor's account.",
    ),
    "temporarily_unavailable": Row(503, "Something that is needed is away for a moment.", "Try again.", retryable=True),
    "circuit_open": Row(
        503,
        "The target failed repeatedly and is left alone for a while; nothing was sent.",
        "Wait for `retry-after` seconds.",
        retryable=True,
    ),
    "overloaded": Row(
        503,
        "This server, or every target that is left, has as many calls as it takes; nothing was begun.",
        "Wait for `retry-after` seconds.",
        retryable=True,
    ),
    "all_targets_failed": Row(
        503, "Every target of the model's chain failed; the message lists them.", "Try again.", retryable=True
    ),
    "budget_unavailable": Row(
        503,
        "PostgreSQL, which lends a budget's money, cannot be asked, and what was lent is used up.",
        "Try again after `retry-after` seconds.",
        retryable=True,
    ),
    "database_unavailable": Row(503, "PostgreSQL cannot be reached, or broke off.", "Try again.", retryable=True),
    "local_model_unavailable": Row(
        503,
        "The model on this machine is starting, switched off or without weights.",
        "Try again; see `GET /health`.",
        retryable=True,
    ),
    "embedder_unavailable": Row(
        503,
        "The embedder on this machine is starting or switched off.",
        "Try again; see `GET /health`.",
        retryable=True,
    ),
    "embedder_busy": Row(
        503, "More text waits for the embedder than it can work off in time.", "Try again later.", retryable=True
    ),
    "too_many_connections": Row(
        503,
        "MAX_CONNECTIONS are open, and each is at work. The connection is closed.",
        "Try again after `retry-after` seconds.",
        retryable=True,
    ),
    "storage_unavailable": Row(
        503,
        "Where files are kept cannot be written or read.",
        "Try again; the operator looks at DATA_DIR.",
        retryable=True,
    ),
    "upstream_timeout": Row(504, "The model's vendor did not answer in time.", "Try again.", retryable=True),
    "storage_full": Row(
        507,
        "Where files are kept no room is left; nothing of the upload stays.",
        "The operator makes room in DATA_DIR.",
        retryable=True,
    ),
}
"""In order of status."""

BY_STATUS: Mapping[int, str] = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
    500: "internal_error",
}
"""The framework's own refusals; any other one is an `invalid_request`."""


def code_of(exc: WattosError) -> str:
    """The code that is answered: that of the nearest class in the error's MRO that the table has."""
    if isinstance(exc, InvalidRequest):
        return exc.reason if exc.reason in TABLE else InvalidRequest.code
    return next(kind.code for kind in type(exc).__mro__ if issubclass(kind, WattosError) and kind.code in TABLE)
