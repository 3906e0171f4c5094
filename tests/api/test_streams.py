"""Streams from a client's side: when bytes come, what usage is shown, deadlines, and the seam between two targets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import Gateway
from nasty_gateway import TRANSPORTS, metric, running_nasty, seen_in
from nasty_upstream import TEXT, chunk, head, raw, said, sse
from upstream import answers, fails, hangs

BODY = {"model": "chat", "messages": [{"role": "user", "content": "ping"}], "stream": True}
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
LEAVING_S = 1.0
"""Within that the upstream's connection is closed once its answer is of no use to anybody."""


@pytest.fixture(scope="module", params=TRANSPORTS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_nasty(tmp_path_factory.mktemp("streams"), request.param) as started:
        assert started.ask("free").status_code == 200  # the first call loads litellm
        yield started


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    running.upstream.reset()
    return running


def data_of(lines: Iterator[str]) -> Iterator[str]:
    return (line.removeprefix("data: ") for line in lines if line)


def content_of(data: str) -> str:
    return str(json.loads(data)["choices"][0]["delta"].get("content") or "")


def test_each_piece_comes_when_it_is_sent(gateway: Gateway) -> None:
    """The first piece arrives while the vendor is held before the second; head and role before it."""
    gateway.upstream.on("gpt", answers("Hello world", chunks=2, hold_after=1))
    with gateway.http() as client, client.stream("POST", "/v1/chat/completions", json=BODY) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        seen = data_of(response.iter_lines())
        text = ""
        while not text:
            text = content_of(next(seen))
        assert text == "Hello "
        assert not gateway.upstream.requests[0].answered
        gateway.upstream.release()
        rest = list(seen)
    assert rest[-1] == "[DONE]"
    assert content_of(rest[0]) == "world"


@pytest.mark.parametrize("wish", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False}}])
def test_usage_is_not_shown_to_who_did_not_ask(gateway: Gateway, wish: dict[str, Any]) -> None:
    """Neither as a chunk nor as a null in every chunk; the vendor is asked for it all the same, and it is counted."""
    gateway.upstream.on("gpt", answers("Hello world", usage=(70, 30)))
    before = metric(gateway, "llm_tokens_total", target="openai/gpt")
    seen = seen_in(gateway.ask("chat", stream=True, **wish))
    assert not any("usage" in body for body in seen.bodies)
    assert all(body["choices"] for body in seen.bodies)
    assert gateway.upstream.requests[0].body["stream_options"]["include_usage"] is True
    assert metric(gateway, "llm_tokens_total", target="openai/gpt") - before == 100


def test_usage_is_the_last_chunk_for_who_asked(gateway: Gateway) -> None:
    """Exactly one, without choices, behind the finish and before `[DONE]`."""
    gateway.upstream.on("gpt", answers("Hello world", usage=(70, 30)))
    seen = seen_in(gateway.ask("chat", stream=True, **USAGE))
    *chunks, last = seen.bodies
    assert (last["choices"], last["object"], last["model"]) == ([], "chat.completion.chunk", "chat")
    assert last["usage"]["total_tokens"] == 100
    assert all(not body.get("usage") and body["choices"] for body in chunks)
    assert (seen.is_done, seen.n_done) == (True, 1)


def test_usage_that_comes_again_and_again_is_shown_and_counted_once(gateway: Gateway) -> None:
    """Some vendors count along in every chunk: the last count is the one."""
    payloads = [
        f'{one[:-1]},"usage":{{"prompt_tokens":7,"completion_tokens":{n},"total_tokens":{7 + n}}}}}'
        for n, one in enumerate(said(), start=1)
    ]
    gateway.upstream.on("gpt", raw(head(kind="text/event-stream"), sse(payloads)))
    before = metric(gateway, "llm_tokens_total", target="openai/gpt", kind="output")
    seen = seen_in(gateway.ask("chat", stream=True, **USAGE))
    assert [body["usage"]["completion_tokens"] for body in seen.bodies if body.get("usage")] == [len(payloads)]
    assert seen.bodies[-1]["choices"] == []
    assert metric(gateway, "llm_tokens_total", target="openai/gpt", kind="output") - before == len(payloads)


def test_usage_in_a_chunk_with_the_finish_hides_neither(gateway: Gateway) -> None:
    """The finish stays where it is; the usage comes behind it."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    gateway.upstream.on(
        "gpt", raw(head(kind="text/event-stream"), sse([*said(finish=None), chunk({}, "stop", usage=usage)]))
    )
    seen = seen_in(gateway.ask("chat", stream=True, **USAGE))
    assert (seen.text, seen.finishes) == (TEXT, ["stop"])
    assert [body["usage"]["total_tokens"] for body in seen.bodies if body.get("usage")] == [10]
    assert seen.bodies[-1]["choices"] == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_is_the_clients(gateway: Gateway, stream: bool) -> None:
    """`x-request-timeout-ms`: 504, no other target, and the vendor's connection is closed."""
    gateway.upstream.on("doomed-1", hangs)
    began_s = time.monotonic()
    with gateway.http() as client:
        response = client.post(
            "/v1/chat/completions",
            json={**BODY, "model": "doomed", "stream": stream},
            headers={"x-request-timeout-ms": "300"},
        )
    ended_s = time.monotonic()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")
    assert 0.3 <= ended_s - began_s < 0.3 + LEAVING_S
    gateway.upstream.wait_until(lambda: gateway.upstream.requests[0].left_at_s)
    assert (gateway.upstream.requests[0].left_at_s or 0) - ended_s < LEAVING_S
    assert not gateway.upstream.to("doomed-2")


def test_a_deadline_within_a_stream_is_one_error_event(gateway: Gateway) -> None:
    """After a token there is no status left to send."""
    gateway.upstream.on("doomed-1", answers("Hello world", chunks=2, hold_after=1))
    with gateway.http() as client:
        response = client.post(
            "/v1/chat/completions", json={**BODY, "model": "doomed"}, headers={"x-request-timeout-ms": "500"}
        )
    seen = seen_in(response)
    assert (seen.text, [one["code"] for one in seen.errors], seen.n_done) == ("Hello ", ["upstream_timeout"], 0)
    gateway.upstream.wait_until(lambda: gateway.upstream.requests[0].left_at_s)
    assert not gateway.upstream.to("doomed-2")


@pytest.mark.parametrize("wish", ["", "0", "-1", "1.5", "soon", "9" * 30])
def test_a_deadline_that_is_none_is_refused(gateway: Gateway, wish: str) -> None:
    """With the header's name; nobody is asked."""
    with gateway.http() as client:
        response = client.post("/v1/chat/completions", json=BODY, headers={"x-request-timeout-ms": wish})
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "x-request-timeout-ms" in response.text
    assert gateway.upstream.requests == []


def broken(gateway: Gateway, alias: str = "doomed", **fields: Any) -> httpx.Response:
    """The first target dies after "Hello "; the second would say "there, world"."""
    first, second = ("seam-1", "seam-2") if alias == "seamed" else ("doomed-1", "doomed-2")
    gateway.upstream.on(first, answers("Hello world", chunks=2, die_after=1))
    gateway.upstream.on(second, answers("there, world", chunks=2))
    return gateway.ask(alias, stream=True, **fields)


def test_a_broken_stream_is_not_continued_unasked(gateway: Gateway) -> None:
    """One error event behind what came; it says whom was asked, as an error's body does."""
    seen = seen_in(broken(gateway))
    assert (seen.text, seen.n_done, len(seen.errors)) == ("Hello ", 0, 1)
    (error,) = seen.errors
    assert (error["code"], error["type"]) == ("upstream_unavailable", "server_error")
    assert [one["target"] for one in error["attempts"]] == ["openai/doomed-1"]
    assert not gateway.upstream.to("doomed-2")


@pytest.mark.parametrize("alias", ["doomed", "seamed"])
def test_a_seam_is_marked_and_nothing_is_said_twice(gateway: Gateway, alias: str) -> None:
    """Asked for by the request, or by the alias: the next target goes on, and one chunk says where."""
    asked: dict[str, Any] = {} if alias == "seamed" else {"x_wattos_seam": True}
    seen = seen_in(broken(gateway, alias, **asked, **USAGE))
    second = "seam-2" if alias == "seamed" else "doomed-2"
    assert (seen.text, seen.errors, seen.is_done, seen.n_done) == ("Hello there, world", [], True, 1)
    assert (seen.roles, seen.finishes) == (["assistant"], ["stop"])
    seams = [number for number, body in enumerate(seen.bodies) if "x_wattos_seam" in body]
    assert [seen.bodies[number]["x_wattos_seam"] for number in seams] == [{"target": f"openai/{second}"}]
    before = "".join(body["choices"][0]["delta"].get("content") or "" for body in seen.bodies[: seams[0]])
    assert before == "Hello "
    assert {body["model"] for body in seen.bodies} == {alias}
    assert len({body["id"] for body in seen.bodies}) == 1
    (request,) = gateway.upstream.to(second)
    assert request.body["messages"] == [
        {"role": "user", "content": "ping"},
        {"role": "assistant", "content": "Hello "},
    ]
    assert "x_wattos_seam" not in request.body


def test_a_request_may_forgo_its_aliass_seam(gateway: Gateway) -> None:
    """`x_wattos_seam: false`."""
    seen = seen_in(broken(gateway, "seamed", x_wattos_seam=False))
    assert (seen.text, len(seen.errors), seen.n_done) == ("Hello ", 1, 0)
    assert not gateway.upstream.to("seam-2")


def test_a_seam_whose_other_side_fails_is_one_error(gateway: Gateway) -> None:
    """Which lists both, in order."""
    gateway.upstream.on("doomed-1", answers("Hello world", chunks=2, die_after=1))
    gateway.upstream.on("doomed-2", fails(503))
    seen = seen_in(gateway.ask("doomed", stream=True, x_wattos_seam=True))
    assert (seen.text, len(seen.errors), seen.n_done) == ("Hello ", 1, 0)
    assert [one["target"] for one in seen.errors[0]["attempts"]] == ["openai/doomed-1", "openai/doomed-2"]


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"reasoning_content": "hm"},
        {"refusal": "I can"},
    ],
)
def test_what_no_other_model_can_take_up_is_not_continued(gateway: Gateway, delta: dict[str, object]) -> None:
    """Half a tool call, half a thought: only text has a prefix."""
    begun = sse([chunk({"role": "assistant", "content": ""}), chunk(delta)], done=False)
    gateway.upstream.on("doomed-1", raw(head(kind="text/event-stream"), begun, cut=True))
    seen = seen_in(gateway.ask("doomed", stream=True, x_wattos_seam=True))
    assert (len(seen.errors), seen.n_done) == (1, 0)
    assert not gateway.upstream.to("doomed-2")


@pytest.mark.parametrize("value", [1, "yes", {}, []])
def test_a_seam_is_wished_for_by_true_or_false(gateway: Gateway, value: object) -> None:
    """Anything else is refused by name."""
    response = gateway.ask("doomed", stream=True, x_wattos_seam=value)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "x_wattos_seam"


def test_a_seam_never_reaches_a_vendor(gateway: Gateway) -> None:
    """It is between the client and us."""
    assert gateway.ask("chat", x_wattos_seam=True).status_code == 200
    assert "x_wattos_seam" not in gateway.upstream.requests[0].body
