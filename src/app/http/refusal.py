"""An answer to what never became a request, as bytes: the same shapes and headers as any other error."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from app.http.error_table import TABLE
from app.http.errors import headers_of, shape

MESSAGES: Mapping[str, str] = {
    "malformed_http": "this is not a valid HTTP/1.1 request",
    "websocket_unsupported": "there are no WebSockets here: answers stream with server-sent events",
    "request_timeout": "the request's headers came too slowly",
    "uri_too_long": "path and query are too long",
    "headers_too_large": "the headers are too long, or too many",
    "too_many_connections": "all connections are taken",
}

RETRY_AFTER_S = 1
"""Connections come free as fast as requests are answered."""


def refusal(code: str, url: str) -> bytes:
    """`url`: as far as it was received; it decides on the shape. Nothing that was sent is in the answer."""
    request_id = secrets.token_hex(16)
    body, media_type = shape(url.partition("?")[0], code, MESSAGES[code], request_id=request_id)
    content = msgspec.json.encode(body)
    status = HTTPStatus(TABLE[code].status)
    headers = {
        "content-type": media_type,
        "content-length": str(len(content)),
        "connection": "close",
        "x-request-id": request_id,
        **headers_of(code),
    }
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = str(RETRY_AFTER_S)
    head = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*head, "", ""]).encode() + content
