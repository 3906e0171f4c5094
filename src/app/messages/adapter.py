"""Anthropic's wire over a transport for chat: the request becomes chat's, the answer becomes a message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec

from app.errors import UpstreamUnavailable
from app.llm.events import payloads
from app.llm.model import Call, Events, Reply, Target, Transport, Usage
from app.llm.relay import Seen
from app.llm.tokens import estimated_usage
from app.messages.from_chat import message_of
from app.messages.stream_from_chat import MessageEvents
from app.messages.to_chat import chat_fields


class AsMessages:
    """A `Transport` for the endpoint `messages` over one for chat."""

    def __init__(self, chat: Transport) -> None:
        self._chat = chat

    async def complete(self, target: Target, call: Call) -> Reply:
        asked = _as_chat(call, target)
        reply = await self._chat.complete(target, asked)
        # This wire has no message without a count.
        usage = reply.usage or await estimated_usage(asked, (reply.body,))
        try:
            message = message_of(reply.body, call.alias, usage)
        except (msgspec.DecodeError, RecursionError):
            raise _unreadable(target) from None
        return Reply(body=msgspec.json.encode(message), usage=usage)

    async def stream(self, target: Target, call: Call) -> AsyncIterator[Events]:
        """A piece that makes no event is passed on empty: it tells that the target is alive."""
        asked = _as_chat(call, target)
        chunks, made, seen = self._chat.stream(target, asked), MessageEvents(call.alias), Seen()
        usage: Usage | None = None
        async with aclosing(chunks):  # type: ignore[type-var]  # transports give async generators
            async for piece in chunks:
                usage = piece.usage or usage
                if piece.wire:
                    seen.add(piece.wire)
                    wire = b"".join(_fed(made, data, target) for data in payloads(piece.wire))
                    yield Events(wire=wire, is_token=piece.is_token)
        usage = usage or await estimated_usage(asked, seen.wires, are_events=True)
        yield Events(wire=made.finish(usage), usage=usage)


def _as_chat(call: Call, target: Target) -> Call:
    fields = chat_fields(call.fields, target.provider_model)
    return msgspec.structs.replace(call, endpoint="chat/completions", fields=fields, include_usage=True)


def _fed(made: MessageEvents, data: bytes, target: Target) -> bytes:
    try:
        return made.feed(data)
    except (msgspec.DecodeError, RecursionError):
        raise _unreadable(target) from None


def _unreadable(target: Target) -> UpstreamUnavailable:
    return UpstreamUnavailable(f"{target.id} answered with something that is no chat completion")
