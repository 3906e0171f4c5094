"""Vendors that answer with anything at all: each answer has one outcome, the same through either transport."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import Gateway
from nasty_gateway import TRANSPORTS, running_nasty, seen_in
from nasty_upstream import (
    BROKEN_STREAMS,
    NO_ANSWERS,
    NO_STREAMS,
    ODD_STREAMS,
    TEXT,
    PeakMemory,
    bomb,
    completion,
    endless,
    head,
    packed,
    raw,
    redirects,
    said,
    sse,
    streams,
)
from upstream import answers, fails

MAX_GROWN_MB = 250
"""While an endless answer is refused: the 64 MB of a whole answer that may be held, once more as they are joined, and
what a server that has just begun grows by anyway."""

ENDLESS_S = 20.0
"""400 MB over the loopback take 2 s; who reads them all has refused nothing."""


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def running(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_nasty(tmp_path_factory.mktemp("nasty"), transport) as started:
        assert started.ask("free").status_code == 200  # the first call loads litellm: 190 MB
        yield started


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    running.upstream.reset()
    return running


def refused(gateway: Gateway, *, code: str = "upstream_unavailable", status: int = 502, **fields: Any) -> None:
    """The only target's answer is none: the client hears so in OpenAI's shape, and nothing of what was said."""
    response = gateway.ask("chat", **fields)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code), response.text
    assert response.headers["content-type"].startswith("application/json")
    for words in ("nginx", "html", "overloaded", "Traceback", "Köln"):
        assert words not in response.text


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_what_is_no_answer_is_unavailable(gateway: Gateway, name: str) -> None:
    """HTML, half JSON, a 200 with an error, no HTTP at all."""
    gateway.upstream.on("gpt", NO_ANSWERS[name])
    refused(gateway)


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_what_is_no_answer_makes_way_for_the_next_target(gateway: Gateway, name: str) -> None:
    """Whose answer the client gets, once and whole."""
    gateway.upstream.on("doomed-1", NO_ANSWERS[name])
    gateway.upstream.on("doomed-2", answers("right"))
    response = gateway.ask("doomed")
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "right"
    assert response.headers["x-wattos-target"] == "openai/doomed-2"


@pytest.mark.parametrize("name", NO_STREAMS)
def test_what_is_no_stream_is_unavailable(gateway: Gateway, name: str) -> None:
    """Before the first token a stream fails like any call: with a status, not with an event."""
    gateway.upstream.on("gpt", NO_STREAMS[name])
    refused(gateway, stream=True)


@pytest.mark.parametrize("name", NO_STREAMS)
def test_what_is_no_stream_makes_way_silently(gateway: Gateway, name: str) -> None:
    """One role, one text, one end: nothing shows that another target was asked before."""
    gateway.upstream.on("doomed-1", NO_STREAMS[name])
    gateway.upstream.on("doomed-2", answers("right"))
    seen = seen_in(gateway.ask("doomed", stream=True))
    assert (seen.text, seen.errors, seen.finishes, seen.n_done) == ("right", [], ["stop"], 1)
    assert seen.roles == ["assistant"]
    assert seen.is_done


@pytest.mark.parametrize("name", ODD_STREAMS)
def test_a_stream_that_is_only_odd_is_whole(gateway: Gateway, name: str) -> None:
    """Torn within letters, CRLF, comments, no `[DONE]`: each letter arrives once, and we end as we should."""
    gateway.upstream.on("gpt", ODD_STREAMS[name])
    seen = seen_in(gateway.ask("chat", stream=True))
    assert (seen.text, seen.errors, seen.finishes) == (TEXT, [], ["stop"])
    assert (seen.is_done, seen.n_done) == (True, 1)
    assert {body["model"] for body in seen.chunks} == {"chat"}
    assert not any("usage" in body for body in seen.chunks)


@pytest.mark.parametrize("name", BROKEN_STREAMS)
def test_a_stream_that_breaks_off_says_so_once(gateway: Gateway, name: str) -> None:
    """What came is the client's; then exactly one error event, no `[DONE]`, no other target's words."""
    gateway.upstream.on("doomed-1", BROKEN_STREAMS[name])
    seen = seen_in(gateway.ask("doomed", stream=True))
    assert seen.text == TEXT
    assert (len(seen.errors), seen.n_done, seen.finishes) == (1, 0, [])
    assert seen.errors[0]["code"] == "upstream_unavailable"
    assert "error" in seen.bodies[-1]
    assert not gateway.upstream.to("doomed-2")


def test_done_is_an_end_without_a_finish(gateway: Gateway, transport: str) -> None:
    """`[DONE]` is the vendor's own word: some small servers send no `finish_reason`. OpenAI's SDK, in litellm, keeps
    it to itself: there the same stream has broken off."""
    gateway.upstream.on("gpt", streams(sse(said(finish=None))))
    seen = seen_in(gateway.ask("chat", stream=True))
    assert seen.text == TEXT
    assert (len(seen.errors), seen.n_done) == ((1, 0) if transport == "litellm" else (0, 1))


def test_a_finish_that_no_blank_line_ends_counts(gateway: Gateway, transport: str) -> None:
    """The connection's end is the event's. OpenAI's SDK, in litellm, drops such an event: the stream has broken off."""
    gateway.upstream.on("gpt", streams(sse(said(), done=False).rstrip(b"\n")))
    seen = seen_in(gateway.ask("chat", stream=True))
    assert seen.text == TEXT
    assert (len(seen.errors), seen.n_done) == ((1, 0) if transport == "litellm" else (0, 1))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_without_end_is_refused(gateway: Gateway, status: int, framing: str, stream: bool) -> None:
    """3 GB of spaces: the connection is closed long before, and memory stays bounded."""
    kind = "text/event-stream" if stream and status == 200 else "application/json"
    gateway.upstream.on("gpt", endless(status=status, kind=kind, framing=framing))
    memory, began_s = PeakMemory(gateway.server), time.monotonic()
    refused(gateway, stream=stream)
    assert memory.grown_mb < MAX_GROWN_MB
    assert time.monotonic() - began_s < ENDLESS_S
    gateway.upstream.wait_until(lambda: gateway.upstream.requests[0].left_at_s)


def test_an_event_without_end_is_one_error(gateway: Gateway) -> None:
    """After a token, one line of text that goes on for ever."""
    start = sse(said(finish=None), done=False) + b'data: {"choices":[{"index":0,"delta":{"content":"'
    gateway.upstream.on("gpt", endless(kind="text/event-stream", framing="close", piece=b"x" * 65_536, first=start))
    memory = PeakMemory(gateway.server)
    seen = seen_in(gateway.ask("chat", stream=True))
    assert (seen.text, len(seen.errors), seen.n_done) == (TEXT, 1, 0)
    assert memory.grown_mb < MAX_GROWN_MB


def test_a_bomb_does_not_go_off(gateway: Gateway) -> None:
    """A gigabyte in a megabyte of gzip."""
    gateway.upstream.on("gpt", bomb())
    memory = PeakMemory(gateway.server)
    refused(gateway)
    assert memory.grown_mb < MAX_GROWN_MB


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "text/html; charset=latin-1", ""])
def test_the_answer_counts_and_not_its_type(gateway: Gateway, kind: str) -> None:
    """A whole answer by any name is one; the client gets it as JSON."""
    gateway.upstream.on("gpt", raw(head(kind=kind), completion()))
    response = gateway.ask("chat")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/json")
    assert response.json()["choices"][0]["message"]["content"] == TEXT


def test_gzip_is_unpacked(gateway: Gateway) -> None:
    """Nobody asked for it; some proxies pack all the same."""
    gateway.upstream.on("gpt", packed(completion()))
    response = gateway.ask("chat")
    assert response.json()["choices"][0]["message"]["content"] == TEXT
    assert "content-encoding" not in response.headers


def test_a_stream_of_gzip_is_unpacked(gateway: Gateway) -> None:
    """The same, event by event."""
    gateway.upstream.on("gpt", packed(sse(said()), "text/event-stream"))
    seen = seen_in(gateway.ask("chat", stream=True))
    assert (seen.text, seen.is_done) == (TEXT, True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(gateway: Gateway, status: int, stream: bool) -> None:
    """Nobody is sent elsewhere with our key: the address in the configuration is wrong."""
    gateway.upstream.on("gpt", redirects(status, f"{gateway.upstream.url}/elsewhere"))
    refused(gateway, code="upstream_misconfigured", stream=stream)
    assert len(gateway.upstream.requests) == 1


def test_a_stream_where_a_whole_answer_was_asked_is_none(gateway: Gateway) -> None:
    """And the other way round."""
    gateway.upstream.on("gpt", streams(sse(said())))
    refused(gateway)
    gateway.upstream.on("gpt", raw(head(), completion()))
    refused(gateway, stream=True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_vendors_words_are_shown_without_addresses_and_keys(gateway: Gateway, stream: bool) -> None:
    """A 400 has its words, which may name what is nobody's business."""
    gateway.upstream.on("gpt", fails(400, f"n is wrong at {gateway.upstream.url}/x for key sk-secret-1234567890"))
    response = gateway.ask("chat", stream=stream)
    assert response.status_code == 400
    assert "n is wrong" in response.json()["error"]["message"]
    assert "sk-secret" not in response.text
    assert str(gateway.upstream.port) not in response.text


def test_what_was_tried_is_told(gateway: Gateway) -> None:
    """Target, status, code and milliseconds of each, in order; no address, no key."""
    gateway.upstream.on("doomed-1", fails(503))
    gateway.upstream.on("doomed-2", fails(429, retry_after="9"))
    response = gateway.ask("doomed")
    error = response.json()["error"]
    assert (response.status_code, error["code"], response.headers["retry-after"]) == (503, "all_targets_failed", "9")
    tried = [(one["target"], one["status"], one["code"]) for one in error["attempts"]]
    assert tried == [
        ("openai/doomed-1", 503, "upstream_unavailable"),
        ("openai/doomed-2", 429, "upstream_rate_limited"),
    ]
    assert all(one.keys() == {"target", "status", "code", "ms"} and one["ms"] >= 0 for one in error["attempts"])
    assert str(gateway.upstream.port) not in response.text
    assert "upstream-test-credential" not in response.text


def test_what_was_not_reached_has_no_status(gateway: Gateway) -> None:
    """Of a refused connection there is none to tell; the next one's is told beside it."""
    gateway.upstream.on("spare", fails(401))
    error = gateway.ask("backed").json()["error"]
    assert [(one["status"], one["code"]) for one in error["attempts"]] == [
        (None, "upstream_unavailable"),
        (401, "upstream_misconfigured"),
    ]


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request_falls_through_to_nobody(gateway: Gateway, status: int, stream: bool) -> None:
    """Five vendors would say the same: the chain stops, and says whom it asked."""
    gateway.upstream.on("doomed-1", fails(status, "n must be 1"))
    response = gateway.ask("doomed", stream=stream)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "upstream_rejected")
    assert [one["target"] for one in response.json()["error"]["attempts"]] == ["openai/doomed-1"]
    assert not gateway.upstream.to("doomed-2")


def test_a_model_name_of_10_kb_is_no_model(gateway: Gateway) -> None:
    """404 without the name in full, and no vendor hears of it."""
    response = gateway.ask("m" * 10_000)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert len(response.content) < 1_000
    assert gateway.upstream.requests == []


def test_nothing_of_all_this_is_a_bug_in_the_log(running: Gateway) -> None:
    """No stack of Python's, nothing unhandled, no word of what a vendor said."""
    text = running.server.logged()
    assert "Traceback" not in text
    assert "unhandled" not in text
    assert "Unclosed" not in text
    assert "never retrieved" not in text
    assert "Köln" not in text
    assert "nginx" not in text
