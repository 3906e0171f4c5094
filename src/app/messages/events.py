"""The end of a stream on Anthropic's wire: its own `message_stop`, or one `error` event. There is no `[DONE]`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

from app.http.anthropic_errors import anthropic_error_event
from app.llm.model import Events
from plugins.contract.errors import WattosError

logger = logging.getLogger("http")


async def events(pieces: AsyncIterator[Events]) -> AsyncIterator[bytes]:
    """Whole SSE events. A failure after the first one ends the stream with exactly one `error` event."""
    try:
        async with aclosing(pieces):  # type: ignore[type-var]  # an async generator, typed as what it is used as
            async for piece in pieces:
                yield piece.wire
    except WattosError as exc:
        yield anthropic_error_event(exc)
    except Exception as exc:  # the status is sent: an event is all that is left to tell the client
        logger.exception("unhandled %s in a stream", type(exc).__name__)
        yield anthropic_error_event(WattosError("internal error"))
