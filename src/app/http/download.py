"""A file that is made while it is sent, as ASGI: whole, or visibly broken off."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from litestar.enums import ScopeType

from app.http.disconnect import ClientLeft, Watch
from plugins.contract.errors import WattosError

if TYPE_CHECKING:
    from litestar.types import Receive, Scope, Send

logger = logging.getLogger("http")


class Download:
    """What goes wrong before the first piece is an ordinary error. After it the connection is closed in the middle of
    the body, which no client takes for its end: a status was sent, and nothing in a file can say that it is not whole.

    A client that reads slowly slows the pieces down; one that leaves closes them.
    """

    def __init__(self, pieces: AsyncGenerator[bytes], *, media_type: str, filename: str) -> None:
        """`filename`: ASCII, without quotes."""
        self._pieces = pieces
        self._headers = [
            (b"content-type", media_type.encode()),
            (b"content-disposition", f'attachment; filename="{filename}"'.encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with Watch(scope, receive):
                async with aclosing(self._pieces):
                    piece = await anext(self._pieces)
                    await send({"type": "http.response.start", "status": 200, "headers": self._headers})
                    # HEAD is answered as GET is, and reads as HEAD once the head is sent: nobody wants the rest.
                    if scope["type"] == ScopeType.HTTP and scope["method"] != "HEAD":
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                        await self._send_rest(send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientLeft:
            pass

    async def _send_rest(self, send: Send) -> None:
        """What is raised here ends the connection, wherever it goes: this is the place that can say what it was."""
        try:
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except WattosError as exc:
            logger.warning("a download broke off: %s", exc.code)
            raise
        except Exception as exc:
            logger.exception("unhandled %s in a download", type(exc).__name__)
            raise
