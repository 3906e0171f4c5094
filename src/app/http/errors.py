"""Exception → response: one table of statuses, two shapes.

`/v1/*` answers in OpenAI's shape, everything else in RFC 9457's. Router-level handlers never see 404 and 405, so one
app-level handler picks the shape by path. An unknown exception is a 500 with the request id, never `str(exc)`.
"""

import logging
from http import HTTPStatus
from typing import Any

from litestar import MediaType, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException

from app import errors as e
from app.http.context import REQUEST_ID
from app.http.schemas import OpenAIError, OpenAIErrorBody, Problem
from plugins.contract import errors as root

logger = logging.getLogger("http")

STATUS: dict[type[root.WattosError], int] = {
    e.InvalidRequest: 400,
    e.UpstreamRejected: 400,
    root.AuthenticationFailed: 401,
    root.PermissionDenied: 403,
    e.NotFound: 404,
    e.Conflict: 409,
    e.BodyTooLarge: 413,
    e.UpstreamRateLimited: 429,
    e.UpstreamMisconfigured: 502,
    e.UpstreamError: 502,
    e.UpstreamTimeout: 504,
    root.RetryableError: 503,
    root.WattosError: 500,
}
"""The nearest class in an error's MRO decides."""

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large", 415: "unsupported_media_type"}

AnyRequest = Request[Any, Any, State]


def status_of(exc: root.WattosError) -> int:
    """The HTTP status of one of our own errors."""
    return next(STATUS[kind] for kind in type(exc).__mro__ if kind in STATUS)


def handle_wattos_error(request: AnyRequest, exc: root.WattosError) -> Response[Any]:
    """Our own errors: their message is safe to show by contract."""
    status = status_of(exc)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.warning("%s: %s", exc.code, exc.message)
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    retry_after_s = getattr(exc, "retry_after_s", None)
    if retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(retry_after_s)))
    code = exc.reason if isinstance(exc, e.InvalidRequest) else exc.code
    return render(request, status, code, exc.message, param=getattr(exc, "param", None), headers=headers)


def handle_http_exception(request: AnyRequest, exc: HTTPException) -> Response[Any]:
    """The framework's own refusals: no such route, wrong method, a parameter of the wrong type."""
    if exc.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return handle_unknown(request, exc)
    param = None
    detail = exc.detail or HTTPStatus(exc.status_code).phrase
    if isinstance(exc, ValidationException) and isinstance(exc.extra, list) and exc.extra:
        first = exc.extra[0]
        param, detail = first.get("key"), first.get("message", detail)
    code = _CODES.get(exc.status_code, "invalid_request")
    return render(request, exc.status_code, code, detail, param=param, headers=dict(exc.headers or {}))


def handle_unknown(request: AnyRequest, exc: Exception) -> Response[Any]:
    """A bug. Logged with its stack, answered without any of it."""
    logger.error("unhandled %s", type(exc).__name__, exc_info=exc)
    request_id = request.scope["state"].get(REQUEST_ID, "unknown")
    return render(request, 500, "internal_error", f"internal error; the request id is {request_id}")


def render(
    request: AnyRequest,
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response[Any]:
    """One error in the shape that the path asks for."""
    if request.url.path == "/v1" or request.url.path.startswith("/v1/"):
        default = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        body = OpenAIErrorBody(message=message, type=_TYPES.get(status, default), code=code, param=param)
        return Response(OpenAIError(body), status_code=status, headers=headers, media_type=MediaType.JSON)
    problem = Problem(
        type=f"urn:wattos:error:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=message,
        code=code,
        param=param,
        instance=request.scope["state"].get(REQUEST_ID),
    )
    return Response(problem, status_code=status, headers=headers, media_type="application/problem+json")


exception_handlers: dict[int | type[Exception], Any] = {
    root.WattosError: handle_wattos_error,
    HTTPException: handle_http_exception,
    Exception: handle_unknown,
}
