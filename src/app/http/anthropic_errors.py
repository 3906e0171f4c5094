"""Errors as Anthropic's clients read them: under `/v1/messages` alone. Knows no framework.

https://docs.anthropic.com/en/api/errors: `error.type` is one of a few names. Beside it stand our stable `code`, also
where its SDK looks for one (`details.error_code`), the field and what was tried, as in OpenAI's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from msgspec import UNSET, UnsetType

from app.http.error_table import TABLE, code_of
from plugins.contract.errors import Attempt, WattosError

PATHS = ("/v1/messages",)
"""Whatever is at or below them answers in this shape."""

TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""By status; other ones below 500 are an `invalid_request_error`, those above an `api_error`."""


class ErrorDetails(msgspec.Struct, frozen=True, kw_only=True):
    """The SDK's `APIStatusError.error_code`."""

    error_code: str


class AnthropicErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """`type` is Anthropic's word, `code` our stable name, `param` the field. `attempts`: as OpenAIErrorBody."""

    type: str
    message: str
    code: str
    details: ErrorDetails
    param: str | None = None
    attempts: tuple[Attempt, ...] | UnsetType = UNSET


class AnthropicError(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """Every error under `/v1/messages`."""

    error: AnthropicErrorBody
    request_id: str | None = None


def is_anthropic(path: str) -> bool:
    """Whether errors of this path have this shape."""
    return any(path == one or path.startswith(one + "/") for one in PATHS)


def anthropic_shape(
    code: str,
    message: str,
    *,
    param: str | None = None,
    request_id: str | None = None,
    attempts: Sequence[Attempt] = (),
) -> AnthropicError:
    """`code`: a row of `app.http.error_table`."""
    body = AnthropicErrorBody(
        type=anthropic_type(TABLE[code].status),
        message=message,
        code=code,
        details=ErrorDetails(error_code=code),
        param=param,
        attempts=tuple(attempts) or UNSET,
    )
    return AnthropicError(error=body, request_id=request_id)


def anthropic_type(status: int) -> str:
    """`error.type` for a status."""
    default = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "api_error"
    return TYPES.get(status, default)


def anthropic_error_event(exc: WattosError) -> bytes:
    """The one event that ends a broken stream; no `message_stop` follows."""
    shape = anthropic_shape(code_of(exc), exc.message, attempts=exc.attempts)
    return b"event: error\ndata: " + msgspec.json.encode(shape) + b"\n\n"
