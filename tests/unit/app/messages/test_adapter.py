"""Anthropic's wire over any transport for chat."""

from __future__ import annotations

import json

import pytest

from app.errors import InvalidRequest, UpstreamUnavailable
from app.llm.model import Events
from app.messages.adapter import AsMessages
from unit.app.messages.support import (
    SHOWN_USAGE,
    TARGET,
    USAGE,
    ScriptedChat,
    asking,
    bodies,
    chunk,
    completion,
    read,
)


async def told(chat: ScriptedChat, **fields: object) -> list[Events]:
    return [piece async for piece in AsMessages(chat).stream(TARGET, asking(stream=True, **fields))]


async def test_whole() -> None:
    """Chat is asked in its own words; the usage is what it counted."""
    chat = ScriptedChat(body=completion(content="Hello"))
    reply = await AsMessages(chat).complete(TARGET, asking(system="Be brief."))
    assert json.loads(reply.body)["usage"] == SHOWN_USAGE
    assert reply.usage == USAGE
    (asked,) = chat.asked
    assert asked.endpoint == "chat/completions"
    assert [message["role"] for message in json.loads(bytes(asked.fields["messages"]))] == ["system", "user"]


async def test_streamed() -> None:
    """Pieces of several chunks; what only begins an answer is no token yet; the end has the usage."""
    chat = ScriptedChat(
        pieces=[[chunk(role="assistant")], [chunk(content="Hel"), chunk(content="lo")], [chunk("stop")]]
    )
    pieces = await told(chat)
    assert [piece.is_token for piece in pieces] == [False, True, True, True, True]
    message = read(b"".join(piece.wire for piece in pieces))
    assert (message["content"][0]["text"], message["usage"]) == ("Hello", SHOWN_USAGE)
    assert [piece.usage for piece in pieces] == [None, None, None, None, USAGE]


async def test_a_target_that_does_not_count() -> None:
    """This wire has no message without usage: it is estimated, once for the client and for us."""
    reply = await AsMessages(ScriptedChat(body=completion(content="Hello there"), usage=None)).complete(
        TARGET, asking()
    )
    assert reply.usage is not None
    assert reply.usage.is_estimate
    assert json.loads(reply.body)["usage"]["output_tokens"] == reply.usage.output_tokens > 0
    *_, last = await told(ScriptedChat(pieces=[[chunk(content="Hello there")], [chunk("stop")]], usage=None))
    assert last.usage is not None
    assert last.usage.is_estimate
    assert bodies(last.wire)[-2]["usage"]["output_tokens"] == last.usage.output_tokens > 0


async def test_left_early() -> None:
    """Closing the events closes the chunks."""
    chat = ScriptedChat(pieces=[[chunk(content="Hel")], [chunk(content="lo")]])
    events = AsMessages(chat).stream(TARGET, asking(stream=True))
    await anext(events)
    await events.aclose()  # type: ignore[attr-defined]  # an async generator, typed as what it is used as
    assert chat.is_closed


async def test_an_answer_that_is_none() -> None:
    """Another target may do better."""
    with pytest.raises(UpstreamUnavailable):
        await AsMessages(ScriptedChat(body=b"[]")).complete(TARGET, asking())
    with pytest.raises(UpstreamUnavailable):
        await told(ScriptedChat(pieces=[[b'{"choices":7}']]))


async def test_what_chat_does_not_have() -> None:
    """Nothing is sent."""
    chat = ScriptedChat(body=completion(content="Hello"))
    with pytest.raises(InvalidRequest):
        await AsMessages(chat).complete(TARGET, asking(tools=[{"type": "bash_20250124", "name": "bash"}]))
    assert chat.asked == []
