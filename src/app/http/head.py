"""HEAD wherever GET is (RFC 9110, 9.3.2): load balancers and monitors ask so. Litestar's routes answer it with 405."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar import Litestar
from litestar.enums import ScopeType

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Scope, Send


def with_head(app: Litestar) -> Litestar:
    """The same app, before its lifespan: what goes around its handler then still sees that it is HEAD."""
    app.asgi_handler = answering_head(app.asgi_handler)
    return app


def answering_head(app: ASGIApp) -> ASGIApp:
    """`app`, to which HEAD looks like GET; of its answer the body stays here, `content-length` does not."""

    async def head_or_other(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "HEAD":
            await app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            scope["method"] = "HEAD"  # the server looks again, and must not wait for a body
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope["method"] = "GET"  # the same scope: what is around us reads from it which route it was
        try:
            await app(scope, receive, send_head)
        finally:
            scope["method"] = "HEAD"

    return head_or_other
