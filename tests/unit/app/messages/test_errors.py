"""Errors as Anthropic's clients read them, before a stream and at its end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, get_args

import msgspec
import pytest
from anthropic.types.shared import ErrorType

from app.errors import UpstreamUnavailable
from app.http.answer import AnthropicEventStream
from app.http.anthropic_errors import anthropic_shape, is_anthropic
from app.http.disconnect import Departure
from app.http.error_table import TABLE
from app.llm.events import event
from app.llm.model import Events
from plugins.contract.errors import Attempt, WattosError
from plugins.contract.requests import DEPARTURE

KNOWN = {*get_args(ErrorType), "request_too_large"}
"""The SDK's list lacks that one, which the page on errors names for 413."""


@pytest.mark.parametrize("code", TABLE)
def test_every_code_has_a_type_that_the_sdk_knows(code: str) -> None:
    """And keeps its own name beside it."""
    body = json.loads(msgspec.json.encode(anthropic_shape(code, "no", param="model", request_id="r1")))
    error = body["error"]
    assert error["type"] in KNOWN
    assert (body["type"], body["request_id"], error["code"], error["details"]) == (
        "error",
        "r1",
        code,
        {"error_code": code},
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/messages", True),
        ("/v1/messages/count_tokens", True),
        ("/v1/messages/", True),
        ("/v1/messagesx", False),
        ("/v1/models", False),
        ("/", False),
    ],
)
def test_paths(path: str, expected: bool) -> None:
    """Its own alone."""
    assert is_anthropic(path) == expected


PIECE = event(b'{"type":"message_start"}', b"message_start")


async def ending(error: Exception | None) -> AsyncIterator[Events]:
    yield Events(wire=PIECE)
    if error is not None:
        raise error


async def wire_of(error: Exception | None) -> bytes:
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Any:
        raise AssertionError("the departure tells of it")

    scope: Any = {"type": "http", "state": {}, DEPARTURE: Departure()}
    await AnthropicEventStream(ending(error), {})(scope, receive, send)
    return b"".join(sent)


async def test_a_stream_that_ends_well() -> None:
    """Nothing is added: there is no `[DONE]` on this wire."""
    assert await wire_of(None) == PIECE


async def test_a_stream_that_breaks() -> None:
    """One error event, with what was tried."""
    error = UpstreamUnavailable("away")
    error.attempts = (Attempt(target="a", status=None, code="upstream_unavailable", ms=1.0),)
    name, data = (await wire_of(error)).removeprefix(PIECE).removesuffix(b"\n\n").split(b"\n")
    body = json.loads(data.removeprefix(b"data: "))
    assert name == b"event: error"
    assert (body["error"]["type"], body["error"]["code"]) == ("api_error", "upstream_unavailable")
    assert [one["target"] for one in body["error"]["attempts"]] == ["a"]


async def test_a_bug_in_a_stream(caplog: pytest.LogCaptureFixture) -> None:
    """Told without a word of it."""
    wire = await wire_of(ZeroDivisionError("secret"))
    assert b"secret" not in wire
    assert b'"code":"internal_error"' in wire
    assert "ZeroDivisionError" in caplog.text


def test_wattos_error_itself() -> None:
    """The root of the tree is in the table: a bug."""
    assert WattosError("x").code in TABLE
