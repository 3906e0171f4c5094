"""What every answer has, whoever gives it: safe headers; HEAD wherever GET is (RFC 9110, 9.3.2); a whole `allow`.

Litestar 2.25 answers HEAD with 405, and OPTIONS with the methods of one of a path's handlers only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, cast

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.routes import HTTPRoute

if TYPE_CHECKING:
    from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send


SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""On every answer that does not say otherwise: nothing of it is run, framed, guessed at or kept."""

OVER_TLS = (b"strict-transport-security", b"max-age=31536000")
"""Where the client came over TLS, as a trusted proxy says."""


def with_methods(app: Litestar) -> Litestar:
    """The same app, before its lifespan: what goes around its handler then still sees that it is HEAD."""
    methods = {route.path_format: frozenset(route.methods) for route in app.routes if isinstance(route, HTTPRoute)}
    app.asgi_handler = _around(app.asgi_handler, methods)
    return app


def _around(app: ASGIApp, methods: Mapping[str, frozenset[str]]) -> ASGIApp:
    """`app`, to which HEAD looks like GET; of its answer the body stays here, `content-length` does not."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"
        http: HTTPScope = scope

        def send_corrected(message: Message) -> Awaitable[None]:  # no coroutine of its own: streams send often
            if message["type"] == "http.response.start":
                headers = [*message["headers"]]
                given = dict(headers)
                if b"allow" in given:
                    headers = [
                        (name, _allow(value, http, methods) if name == b"allow" else value) for name, value in headers
                    ]
                headers += [pair for pair in SAFE_HEADERS if pair[0] not in given]
                if http["scheme"] == "https":
                    headers.append(OVER_TLS)
                message["headers"] = headers
            if is_head:
                http["method"] = "HEAD"  # the server looks again, and must not wait for a body
                if message["type"] == "http.response.body":
                    message = {**message, "body": b""}
            return send(message)

        if is_head:
            http["method"] = "GET"  # the same scope: what is around us reads from it which route it was
        try:
            await app(scope, receive, send_corrected)
        finally:
            if is_head:
                http["method"] = "HEAD"

    return handler


def _allow(value: bytes, scope: HTTPScope, methods: Mapping[str, frozenset[str]]) -> bytes:
    names = {name.strip() for name in value.decode("latin-1").split(",")}
    template = cast("dict[str, str]", scope).get("path_template", "")  # none where no route was found
    names |= methods.get(template, frozenset())
    return ", ".join(sorted(names | ({"HEAD"} if "GET" in names else set()))).encode()
