"""Answers that are never given again: those that are not whole, not plain, or not one target's."""

from __future__ import annotations

import pytest

from anthropic_upstream import says_blocks, text, tool_use
from cached_world import PATHS, Cached, asking, body_of
from nasty_gateway import seen_in
from upstream import answers, fails

pytestmark = pytest.mark.requirement("PERF-1")

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


@pytest.mark.parametrize("stream", [False, True])
def test_answers_that_are_not_whole_and_plain_are_never_kept(cached: Cached, stream: bool) -> None:
    """Errors, calls of tools, what a filter cut off."""
    for model, script in (
        ("failed", fails(400)),
        ("tools", answers("let me see", message={"tool_calls": [{"index": 0, **CALL}]})),
        ("function", answers("let me see", message={"function_call": {"name": "weather", "arguments": "{}"}})),
        ("filtered", answers("I", finish="content_filter")),
    ):
        cached.upstream.on("gpt", script)
        body = asking(stream=stream)
        n_before = cached.calls()
        responses = [cached.post(body) for _ in range(2)]
        assert {r.headers.get("x-wattos-cache", "none") for r in responses} <= {"miss", "none"}, model
        assert cached.calls() == n_before + 2, model


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_came_to_its_length_is_kept(cached: Cached, stream: bool) -> None:
    """An equal request asked for the same length."""
    cached.upstream.on("gpt", answers("Hello wor", finish="length"))
    body = asking(stream=stream)
    assert cached.states(body, body) == ["miss", "hit"]


@pytest.mark.parametrize("stream", [False, True])
def test_on_anthropics_wire_tools_are_never_kept_either(cached: Cached, stream: bool) -> None:
    """Calls of them in answers, their results in requests."""
    cached.upstream.on("claude-one", says_blocks(tool_use("toolu_1", "weather"), stop_reason="tool_use"))
    body = body_of("claude", stream=stream)
    assert cached.states(body, body, path=PATHS["messages"]) == ["miss", "miss"]
    cached.upstream.on("claude-one", says_blocks(text("Sunny")))
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    body["messages"] += turns
    assert cached.states(body, body, path=PATHS["messages"]) == ["off", "off"]


def test_requests_with_results_of_tools_are_never_answered_again(cached: Cached) -> None:
    """What a tool found an hour ago is no answer."""
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    body = asking()
    body["messages"] += turns
    assert cached.states(body, body) == ["off", "off"]


def test_a_stream_that_broke_off_is_not_kept(cached: Cached) -> None:
    cached.upstream.on("gpt", answers("Hello world", die_after=2, delay_s=0.05))
    body = asking(stream=True)
    assert seen_in(cached.post(body)).errors
    assert cached.states(body) == ["miss"]


def test_a_stream_that_its_client_left_is_not_kept(cached: Cached) -> None:
    cached.upstream.on("gpt", answers("Hello world", hold_after=2))
    body = asking(stream=True)
    with cached.http() as client, client.stream("POST", PATHS["chat"], json=body) as response:
        next(response.iter_lines())
    cached.upstream.wait_until(lambda: cached.upstream.requests[0].left_at_s)
    cached.upstream.on("gpt", answers("Hello again"))
    assert cached.states(body, body) == ["miss", "hit"]


def test_a_stream_of_two_targets_is_not_kept(cached: Cached) -> None:
    """One broke off and another went on: no model has said that."""
    cached.upstream.on("seam-1", answers("Hello world", die_after=2, delay_s=0.05))
    cached.upstream.on("seam-2", answers(" and good night"))
    body = asking("seamed", stream=True)
    assert seen_in(cached.post(body)).is_done
    assert cached.states(body) == ["miss"]
