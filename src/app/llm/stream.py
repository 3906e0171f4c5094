"""A target's stream, watched: silent until its first token is there, then chunk by chunk, each within its time-out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from app.errors import UpstreamTimeout, UpstreamUnavailable
from app.llm.model import StreamChunk, Target


@asynccontextmanager
async def within(timeout_s: float, target: Target) -> AsyncGenerator[None]:
    """Raises: UpstreamTimeout past it. A TimeoutError from inside that is not ours passes through."""
    clock = asyncio.timeout(timeout_s)
    try:
        async with clock:
            yield
    except TimeoutError:
        if not clock.expired():
            raise
        raise UpstreamTimeout(f"{target.id} did not answer within {timeout_s:g} s") from None


async def until_token(chunks: AsyncIterator[StreamChunk], target: Target) -> list[StreamChunk]:
    """The chunks up to the first token; `chunks` is closed if there is none to be had.

    Raises: UpstreamUnavailable for an empty stream, UpstreamTimeout, what the transport raises.
    """
    found: list[StreamChunk] = []
    try:
        async with within(target.timeouts.first_token_s, target):
            async for chunk in chunks:
                found.append(chunk)
                if chunk.is_token:
                    break
        if not found:
            raise UpstreamUnavailable(f"{target.id} ended its answer before it began")
    except BaseException:
        await close(chunks)
        raise
    return found


async def following(chunks: AsyncIterator[StreamChunk], target: Target) -> StreamChunk | None:
    """The next chunk, None at the end. Raises: UpstreamTimeout, what the transport raises."""
    async with within(target.timeouts.silence_s, target):
        return await anext(chunks, None)


async def close(chunks: AsyncIterator[StreamChunk]) -> None:
    """Closes the target's connection, too, when it still sends."""
    async with aclosing(chunks):  # type: ignore[type-var]  # transports give async generators
        pass
