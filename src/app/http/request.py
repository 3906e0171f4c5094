"""The request as handlers get it: its body is read within bounds of size, kind and time, whoever reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar

from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import HTTPException, InternalServerException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import Empty

from plugins.contract.requests import CLIENT_CLOSED_REQUEST

WHOLE = "wattos.whole"
"""Key in the scope, behind our own server: the request has been received to its end, nothing of it is waited for."""

MIN_PROGRESS_BYTES = 4096
"""What each REQUEST_BODY_TIMEOUT_S must bring: at its default 137 bytes a second, less than any line that is alive."""

TOLERATED = frozenset(
    {"", "application/json", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream"}
)
"""Media types of a JSON body: `curl -d` says that it is a form, and other small clients say nothing."""

CHARSETS = frozenset({"", "utf-8", "utf8", "us-ascii"})


class BoundedRequest(Request[Any, Any, State]):
    """`body()` is JSON, `stream()` anything. Kind and time are watched here; MAX_BODY_BYTES by Litestar, but for a body
    that is there already."""

    body_timeout_s: ClassVar[float]

    async def body(self) -> bytes:
        """Raises: HTTPException 415 for what is clearly no JSON; else as `stream`."""
        if self._body is Empty:
            self._refuse_other_media()
            self._body = await (self._body_that_is_there() if WHOLE in self.scope else self._body_as_it_comes())
        return self._body

    async def _body_that_is_there(self) -> bytes:
        """Without a timer, and without the framework's steps for each piece: a twentieth of a small call (measured)."""
        if not self.is_connected:  # Litestar's word for: it was read
            raise _left()
        self.scope.pop(WHOLE, None)  # type: ignore[misc]  # ours; for another request object nothing is left
        pieces: list[bytes] = []
        has_more = True
        while has_more:
            message = await self.receive()
            if message["type"] != "http.request":
                raise _left()
            pieces.append(message.get("body", b""))
            has_more = message.get("more_body", False)
        self.is_connected = False
        body = b"".join(pieces)
        max_bytes = self.route_handler.resolve_request_max_body_size()
        if max_bytes is not None and len(body) > max_bytes:
            raise RequestEntityTooLarge
        return body

    async def _body_as_it_comes(self) -> bytes:
        """One timer for all of it, put off with each progress: 7 µs, where one for each piece costs 21 (measured)."""
        pieces: list[bytes] = []
        n_bytes = 0
        try:
            async with asyncio.timeout(self.body_timeout_s) as limit:
                async for piece in super().stream():
                    pieces.append(piece)
                    n_bytes += len(piece)
                    if n_bytes >= MIN_PROGRESS_BYTES:
                        n_bytes = 0
                        limit.reschedule(asyncio.get_running_loop().time() + self.body_timeout_s)
        except TimeoutError:
            raise _too_slow() from None
        except InternalServerException:
            raise _left() from None
        return b"".join(pieces)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Raises: HTTPException 408 when the client is too slow, 413 when it sends too much, 499 when it leaves.

        Only waiting counts: however long the reader takes for a piece, it is not the client's fault.
        """
        clock = asyncio.get_running_loop().time
        waited_s, n_bytes = 0.0, 0
        async with aclosing(super().stream()) as pieces:
            while True:
                began_s = clock()
                try:
                    async with asyncio.timeout(self.body_timeout_s - waited_s):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise _too_slow() from None
                except InternalServerException:
                    raise _left() from None
                waited_s, n_bytes = waited_s + clock() - began_s, n_bytes + len(piece)
                if n_bytes >= MIN_PROGRESS_BYTES:
                    waited_s, n_bytes = 0.0, 0
                yield piece

    def _refuse_other_media(self) -> None:
        for name, value in self.scope["headers"]:
            if name == b"content-type" and value != b"application/json":
                kind, options = self.content_type
                is_json = kind.lower() in TOLERATED or kind.lower().endswith("+json")
                if not is_json or options.get("charset", "").lower() not in CHARSETS:
                    raise HTTPException("send the body as application/json in UTF-8", status_code=415)
            elif name == b"content-encoding" and value.lower() != b"identity":
                raise HTTPException(
                    "send the body as it is: no content-encoding is read",
                    status_code=415,
                    headers={"accept-encoding": "identity"},  # RFC 9110, 15.5.16
                )


def _too_slow() -> HTTPException:
    return HTTPException("the body comes too slowly", status_code=408)


def _left() -> HTTPException:
    """Litestar's word for it is InternalServerException."""
    return HTTPException("the client left", status_code=CLIENT_CLOSED_REQUEST)


def request_class(*, body_timeout_s: float) -> type[BoundedRequest]:
    """For `Litestar(request_class=…)`, which makes the instances itself."""

    class TimedRequest(BoundedRequest):
        pass

    TimedRequest.body_timeout_s = body_timeout_s
    return TimedRequest
