"""A stream on OpenAI's wire, passed on: the same for the client however the network tore it and a vendor spaced it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UpstreamRateLimited, UpstreamUnavailable
from app.llm.events import payloads
from app.llm.model import Call, Events, Target, Usage
from app.llm.transports.openai_chunks import OpenAIChunks
from app.llm.transports.whole_events import WholeEvents

TARGET = Target(id="t", alias="a", provider_model="openai/vendor", transport="direct")
DENSE, SPACED = (",", ":"), (", ", ": ")
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choices = [{"index": index, "delta": delta, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "vendor", "choices": choices, **more}


def said(*texts: str, **more: Any) -> list[dict[str, Any]]:
    """A whole answer of these pieces, with its usage."""
    begun = chunk({"role": "assistant", "content": ""}, **more)
    return [begun, *(chunk({"content": text}, **more) for text in texts), chunk({}, "stop", **more)]


def wire_of(bodies: list[dict[str, Any]], separators: tuple[str, str] = DENSE, *, done: bool = True) -> bytes:
    events = [json.dumps(body, separators=separators, ensure_ascii=False) for body in bodies]
    return "".join(f"data: {event}\n\n" for event in [*events, *(["[DONE]"] if done else [])]).encode()


def read(wire: bytes, *cuts: int, include_usage: bool = False) -> tuple[list[dict[str, Any]], OpenAIChunks]:
    """What the client gets of `wire`, torn at `cuts`."""
    chunks = OpenAIChunks(TARGET, Call(alias="own", fields={}, include_usage=include_usage))
    whole, found = WholeEvents(), list[Events]()
    edges = [0, *sorted(cuts), len(wire)]
    for start, end in itertools.pairwise(edges):
        if (events := whole.feed(wire[start:end])) and (shown := chunks.read(events)) is not None:
            found.append(shown)
    if (events := whole.last()) and (shown := chunks.read(events)) is not None:
        found.append(shown)
    if chunks.failure is not None:
        raise chunks.failure
    if (shown := chunks.usage_event()) is not None:
        found.append(shown)
    return [json.loads(data) for events in found for data in payloads(events.wire)], chunks


def of_alias(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in {**body, "model": "own"}.items() if k != "usage"} for body in bodies if body["choices"]]


@pytest.mark.parametrize("separators", [DENSE, SPACED, (" ,", " : ")])
@given(texts=st.lists(st.text(), max_size=8), cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_nothing_is_lost_or_changed_but_the_name(
    separators: tuple[str, str], texts: list[str], cuts: list[int]
) -> None:
    """Any text, torn anywhere, even within a character; quickly or slowly, the client gets the same."""
    bodies = said(*texts)
    wire = wire_of(bodies, separators)
    shown, chunks = read(wire, *(cut % len(wire) for cut in cuts))
    assert shown == of_alias(bodies)
    assert chunks.is_done


@pytest.mark.parametrize("text", ['"model":"vendor"', ',"usage":null', 'data: {"a"', "\n\ndata: [DONE]\n\n", '"error"'])
def test_text_that_looks_like_the_wire_is_text(text: str) -> None:
    """Within a text quotes and newlines are escaped, so nothing in it is taken for a member."""
    bodies = said("Hello", text, text, usage=None)
    shown, _ = read(wire_of(bodies), 300)
    assert shown == of_alias(bodies)


@pytest.mark.parametrize("include_usage", [True, False])
@pytest.mark.parametrize("separators", [DENSE, SPACED])
def test_usage_is_shown_to_who_asked(separators: tuple[str, str], include_usage: bool) -> None:
    """As one last chunk without choices; the `null` on every chunk is for nobody."""
    counted = {**chunk({}), "choices": [], "usage": USAGE}
    bodies = [*said(*"abcdef", usage=None), counted]
    shown, chunks = read(wire_of(bodies, separators), 700, include_usage=include_usage)
    assert chunks.usage == Usage(input_tokens=7, output_tokens=3)
    assert shown[: len(bodies) - 1] == of_alias(bodies)
    assert len(shown) == len(bodies) - (not include_usage)
    if include_usage:
        assert (shown[-1]["usage"], shown[-1]["choices"], shown[-1]["model"]) == (USAGE, [], "own")


def test_usage_beside_the_last_choice_is_read() -> None:
    """Some vendors need no chunk of its own for it; the last one counts."""
    bodies = said("a", "b")
    bodies[-2]["usage"] = {"prompt_tokens": 7, "completion_tokens": 1}
    bodies[-1]["usage"] = USAGE
    shown, chunks = read(wire_of(bodies), 300)
    assert chunks.usage == Usage(input_tokens=7, output_tokens=3)
    assert shown == of_alias(bodies)


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(wire_of(said("a", "b")).replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(wire_of(said("a", "b")).replace(b"\n", b"\r"), id="CR"),
        pytest.param(b": hello\n\n" + wire_of(said("a", "b")).replace(b"data:", b": ping\ndata:"), id="comments"),
        pytest.param(wire_of(said("a", "b")).replace(b"data: ", b"event: x\nid: 1\ndata:"), id="other fields"),
        pytest.param(wire_of(said("a", "b")).replace(b"\n\n", b"\n\n\n\n"), id="more blank lines"),
        pytest.param(wire_of(said("a", "b")).rstrip(), id="no blank line at the end"),
        pytest.param(wire_of(said("a", "b"), done=False), id="no DONE"),
        pytest.param(wire_of(said("a", "b")).replace(b'{"id"', b'\ndata: {"id"'), id="data on several lines"),
    ],
)
@pytest.mark.parametrize("cut", [1, 50, 200, 333])
def test_all_that_the_format_allows_is_read(wire: bytes, cut: int) -> None:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    shown, chunks = read(wire, *range(cut, len(wire), cut))
    assert shown == of_alias(said("a", "b"))
    assert chunks.is_finished


def test_stream_without_an_end_is_not_finished() -> None:
    """Neither `[DONE]` nor a finish reason: it broke off, even where other choices finished."""
    assert not read(wire_of(said("a")[:-1], done=False))[1].is_finished
    two = [chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop")]
    assert not read(wire_of(two, done=False))[1].is_finished
    assert read(wire_of([*two, chunk({}, "stop", index=1)], done=False))[1].is_finished


@pytest.mark.parametrize("before", [[], said("a", "b", "c")[:-1]])
def test_error_in_a_stream_is_raised(before: list[dict[str, Any]]) -> None:
    """By the status that it names; and what is no chunk at all is no answer."""
    with pytest.raises(UpstreamRateLimited):
        read(wire_of(before, done=False) + wire_of([{"error": {"message": "slow down", "code": 429}}]))
    with pytest.raises(UpstreamUnavailable):
        read(wire_of(before, done=False) + wire_of([{"error": "out of memory"}]))
    with pytest.raises(UpstreamUnavailable):
        read(wire_of(before, done=False) + b'data: {"id":"c","choices":[{"del\n\n')
    with pytest.raises(UpstreamUnavailable):
        read(wire_of(before, done=False) + b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n')


def test_what_came_before_an_error_is_passed_on() -> None:
    """In one packet with it, too; nothing behind it."""
    chunks = OpenAIChunks(TARGET, Call(alias="own", fields={}))
    bodies = [*said("a", "b", "c")[:-1], {"error": "out of memory"}, *said("d")]
    shown = chunks.read(wire_of(bodies))
    assert shown is not None
    assert [json.loads(data) for data in payloads(shown.wire)] == of_alias(said("a", "b", "c")[:-1])
    assert isinstance(chunks.failure, UpstreamUnavailable)


def test_first_token_is_told_from_the_role() -> None:
    """Until then another target may answer."""
    chunks = OpenAIChunks(TARGET, Call(alias="own", fields={}))
    role, token, *_ = (f"data: {json.dumps(body)}\n\n".encode() for body in said("a"))
    announced, begun = chunks.read(role), chunks.read(token)
    assert announced is not None
    assert begun is not None
    assert (announced.is_token, begun.is_token) == (False, True)


def test_event_without_end_is_refused() -> None:
    """16 MiB without a blank line are no event."""
    whole = WholeEvents()
    for _ in range(16):
        whole.feed(b"x" * 1024 * 1024)
    with pytest.raises(UpstreamUnavailable):
        whole.feed(b"x")
