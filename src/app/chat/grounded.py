"""A question over documents: what the language model is told, and what is added to what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from app.chat.citations import exact, on_the_wire
from app.errors import UpstreamUnavailable
from app.grounding import Answerer, Grounding
from app.llm.events import event, payloads
from app.llm.model import Call, Events

EXTRACTIVE = "wattos-extractive"


def with_passages(fields: Mapping[str, msgspec.Raw], instructions: str) -> dict[str, msgspec.Raw]:
    """The request with the numbered passages as its first system message; the client's own messages stay."""
    messages = msgspec.json.decode(fields["messages"], type=list[msgspec.Raw])
    system = msgspec.Raw(msgspec.json.encode({"role": "system", "content": instructions}))
    return {**fields, "messages": msgspec.Raw(msgspec.json.encode([system, *messages]))}


class CitedReply:
    """Adds citations to what a language model wrote, whole or chunk by chunk."""

    def __init__(self, answerer: Answerer, grounding: Grounding) -> None:
        self._answerer = answerer
        self._grounding = grounding
        self._texts: dict[int, str] = {}

    def whole(self, body: bytes, extra: Mapping[str, object]) -> bytes:
        """A finished completion with `annotations` on each message, and `x_wattos`."""
        reply = _decode(body)
        for choice in reply.get("choices", []):
            message: dict[str, Any] = choice.get("message") or {}
            # The extractive answerer brings its own.
            message.setdefault("annotations", self._annotations(message.get("content") or ""))
        reply["x_wattos"] = extra
        return msgspec.json.encode(reply)

    async def chunks(self, chunks: AsyncIterator[Events], extra: Mapping[str, object]) -> AsyncIterator[Events]:
        """The same stream, with `annotations` and `x_wattos` on the chunk that finishes each choice."""
        async with aclosing(chunks):  # type: ignore[type-var]  # an async generator, typed as what it is used as
            async for chunk in chunks:
                yield self._annotated(chunk, extra)

    def _annotated(self, events: Events, extra: Mapping[str, object]) -> Events:
        wire = b"".join(self._annotate(data, extra) for data in payloads(events.wire))
        return msgspec.structs.replace(events, wire=wire)

    def _annotate(self, data: bytes, extra: Mapping[str, object]) -> bytes:
        body = _decode(data)
        finished = False
        for choice in body.get("choices", []):
            index, delta = choice.get("index", 0), choice.setdefault("delta", {})
            self._texts[index] = self._texts.get(index, "") + (delta.get("content") or "")
            if choice.get("finish_reason"):
                finished = True
                delta.setdefault("annotations", self._annotations(self._texts[index]))
        if not finished:
            return event(data)
        body["x_wattos"] = extra
        return event(msgspec.json.encode(body))

    def _annotations(self, text: str) -> list[Any]:
        passages = self._grounding.retrieved.passages
        return on_the_wire(exact(self._answerer.cite(text, passages), passages))


def ground(call: Call, grounding: Grounding) -> Call:
    return msgspec.structs.replace(call, grounding=grounding)


def _decode(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError:
        raise UpstreamUnavailable("the target answered with something that is not JSON") from None
