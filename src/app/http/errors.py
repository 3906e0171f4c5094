"""Exception → response: the one table of codes, three shapes.

`/v1/*` answers in OpenAI's shape, `/v1/messages` in Anthropic's, everything else in RFC 9457's. Router-level handlers
never see 404 and 405, so one app-level handler picks the shape by path. An unknown exception is a 500 with the request
id, never `str(exc)`.
"""

import logging
from http import HTTPStatus
from typing import Any, cast

from litestar import MediaType, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException
from msgspec import UNSET

from app.http.anthropic_errors import AnthropicError, anthropic_shape, is_anthropic
from app.http.context import REQUEST_ID
from app.http.error_table import BY_STATUS, TABLE, code_of
from app.http.schemas import OpenAIError, OpenAIErrorBody, Problem
from plugins.contract import errors as root
from plugins.contract.limits import rate_headers
from plugins.contract.requests import CLIENT_CLOSED_REQUEST

logger = logging.getLogger("http")

PROBLEM_JSON = "application/problem+json"

AnyRequest = Request[Any, Any, State]


def status_of(exc: root.WattosError) -> int:
    """The HTTP status of one of our own errors."""
    return TABLE[code_of(exc)].status


def handle_wattos_error(request: AnyRequest, exc: root.WattosError) -> Response[Any]:
    """Our own errors: their message is safe to show by contract."""
    code = code_of(exc)
    if TABLE[code].status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.warning("%s: %s", exc.code, exc.message)
    retry_after_s = getattr(exc, "retry_after_s", None)
    headers = {} if retry_after_s is None else {"retry-after": str(max(1, round(retry_after_s)))}
    if isinstance(exc, root.RateLimited):
        headers |= rate_headers(exc.limits)
    return render(request, code, exc.message, param=getattr(exc, "param", None), headers=headers, attempts=exc.attempts)


def handle_http_exception(request: AnyRequest, exc: HTTPException) -> Response[Any]:
    """The framework's own refusals: no such route, wrong method, a parameter of the wrong type."""
    if exc.status_code == CLIENT_CLOSED_REQUEST:
        return Response(None, status_code=exc.status_code)  # for the request log alone: nobody is there to read
    if exc.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return handle_unknown(request, exc)
    param: str | None = None
    detail = exc.detail or HTTPStatus(exc.status_code).phrase
    if isinstance(exc, ValidationException) and isinstance(exc.extra, list) and exc.extra:
        first = cast("dict[str, str]", exc.extra[0])  # Litestar: a list of {message, key, source}
        param, detail = first.get("key"), first.get("message", detail)
    code = BY_STATUS.get(exc.status_code, "invalid_request")
    return render(request, code, detail, param=param, headers=dict(exc.headers or {}))


def handle_unknown(request: AnyRequest, exc: Exception) -> Response[Any]:
    """A bug. Logged with its stack, answered without any of it."""
    logger.error("unhandled %s", type(exc).__name__, exc_info=exc)
    request_id = request.scope["state"].get(REQUEST_ID, "unknown")
    return render(request, "internal_error", f"internal error; the request id is {request_id}")


def render(
    request: AnyRequest,
    code: str,
    message: str,
    *,
    param: str | None = None,
    headers: dict[str, str] | None = None,
    attempts: tuple[root.Attempt, ...] = (),
) -> Response[Any]:
    """One error in the shape that the path asks for. `headers` go before those that the code has by itself."""
    request_id = request.scope["state"].get(REQUEST_ID)
    body, media_type = shape(request.url.path, code, message, param=param, request_id=request_id, attempts=attempts)
    headers = {**headers_of(code), **(headers or {})}
    if isinstance(request_id, str) and is_anthropic(request.url.path):
        headers["request-id"] = request_id  # where Anthropic's SDKs look for it
    return Response(body, status_code=TABLE[code].status, headers=headers, media_type=media_type)


def headers_of(code: str) -> dict[str, str]:
    """What a code says by headers: how to authenticate, and that retrying is useless.

    OpenAI's clients retry 408, 409, 429 and 5xx by themselves unless `x-should-retry` says no.
    """
    row = TABLE[code]
    headers = {} if row.retryable else {"x-should-retry": "false"}
    if row.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return headers


def shape(
    path: str,
    code: str,
    message: str,
    *,
    param: str | None = None,
    request_id: str | None = None,
    attempts: tuple[root.Attempt, ...] = (),
) -> tuple[OpenAIError | AnthropicError | Problem, str]:
    """Returns: the body and its media type."""
    row = TABLE[code]
    if is_anthropic(path):
        shaped = anthropic_shape(code, message, param=param, request_id=request_id, attempts=attempts)
        return shaped, MediaType.JSON.value
    if path == "/v1" or path.startswith("/v1/"):
        body = OpenAIErrorBody(
            message=message, type=row.openai_type, code=code, param=param, attempts=attempts or UNSET
        )
        return OpenAIError(body), MediaType.JSON.value
    problem = Problem(
        type=f"urn:wattos:error:{code}",
        title=HTTPStatus(row.status).phrase,
        status=row.status,
        detail=message,
        code=code,
        param=param,
        instance=request_id,
    )
    return problem, PROBLEM_JSON


exception_handlers: dict[int | type[Exception], Any] = {
    root.WattosError: handle_wattos_error,
    HTTPException: handle_http_exception,
    Exception: handle_unknown,
}
