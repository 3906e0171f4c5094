"""A client that leaves stops what it asked for: by itself uvicorn lets the handler of a plain call run to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import HTTPException

T = TypeVar("T")

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for it: only the request log ever sees it."""


async def while_connected(request: Request[Any, Any, State], work: Awaitable[T]) -> T:
    """Await `work`, whose request's body has been read. When the client leaves first, `work` is cancelled.

    Raises: HTTPException 499 then; else what `work` raises.
    """
    task = asyncio.current_task()
    assert task is not None
    n_cancelling = task.cancelling()
    has_left = False

    def stop(leaving: asyncio.Task[None]) -> None:
        nonlocal has_left
        if not leaving.cancelled() and leaving.exception() is None:
            has_left = True
            task.cancel()

    leaving = asyncio.create_task(_disconnected(request), name="client-disconnect")
    leaving.add_done_callback(stop)
    try:
        return await work
    except asyncio.CancelledError:
        # Ours alone is turned into an error; one from outside goes on its way.
        if has_left and task.uncancel() <= n_cancelling:
            raise HTTPException("the client left", status_code=CLIENT_CLOSED_REQUEST) from None
        raise
    finally:
        leaving.remove_done_callback(stop)
        leaving.cancel()


async def _disconnected(request: Request[Any, Any, State]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
