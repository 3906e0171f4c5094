"""`x-request-timeout-ms`: one deadline a request, on every wire and for every wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway, running_gateway
from upstream import answers, hangs

DEADLINE_S = 0.3
SLACK_S = 0.2
"""The bar: 504 within 500 ms of a deadline of 300."""
MESSAGES = [{"role": "user", "content": "ping"}]

CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", "gpt", {"model": "chat", "messages": MESSAGES}),
    "chat, streamed": ("/v1/chat/completions", "gpt", {"model": "chat", "messages": MESSAGES, "stream": True}),
    "completions": ("/v1/completions", "gpt", {"model": "chat", "prompt": "ping"}),
    "messages": ("/v1/messages", "gpt", {"model": "chat", "messages": MESSAGES, "max_tokens": 9}),
    "messages, streamed": (
        "/v1/messages",
        "gpt",
        {"model": "chat", "messages": MESSAGES, "max_tokens": 9, "stream": True},
    ),
    "embeddings": ("/v1/embeddings", "vec", {"model": "vectors", "input": "ping"}),
    "moderations": ("/v1/moderations", "guard", {"model": "guard", "input": "ping"}),
}


def ask(gateway: Gateway, path: str, body: object, **headers: str) -> tuple[httpx.Response, float]:
    """And how long it took. The connection is there already."""
    with gateway.http() as client:
        client.get("/v1/models").raise_for_status()
        began_s = time.monotonic()
        answer = client.post(path, json=body, headers={"x-request-timeout-ms": str(int(DEADLINE_S * 1000)), **headers})
        return answer, time.monotonic() - began_s


def given_up(gateway: Gateway, path: str, body: object, **headers: str) -> None:
    """504 in time; on a machine that is busy with other things once in three is enough."""
    took_s: list[float] = []
    while not took_s or (min(took_s) >= DEADLINE_S + SLACK_S and len(took_s) < 3):
        answer, last_s = ask(gateway, path, body, **headers)
        assert answer.status_code == 504, answer.text
        took_s.append(last_s)
    assert DEADLINE_S <= min(took_s) < DEADLINE_S + SLACK_S, took_s


@pytest.mark.requirement("RES-2")
@pytest.mark.parametrize("name", CALLS)
def test_a_target_that_hangs_is_given_up_in_time(gateway: Gateway, name: str) -> None:
    """504, and the target's connection is closed."""
    path, model, body = CALLS[name]
    gateway.post(body, path)  # whatever a first call has to set up
    gateway.upstream.reset()
    gateway.upstream.on(model, hangs)
    given_up(gateway, path, body)
    gateway.upstream.wait_until(lambda: all(one.left_at_s for one in gateway.upstream.to(model)))


def test_whoever_waits_for_the_first_of_two_keeps_its_own_deadline(gateway: Gateway) -> None:
    """With an Idempotency-Key that is at work the second one waits for the first; not beyond its deadline."""
    path, model, body = CALLS["chat"]
    gateway.upstream.on(model, answers(hold_after=0))
    key = {"idempotency-key": uuid4().hex}

    def first() -> None:
        with gateway.http() as client:
            assert client.post(path, json=body, headers=key).status_code == 200

    asking = threading.Thread(target=first)
    asking.start()
    gateway.upstream.wait_until(lambda: gateway.upstream.to(model))
    given_up(gateway, path, body, **key)
    assert len(gateway.upstream.to(model)) == 1
    gateway.upstream.release()
    asking.join(10)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One call runs, one waits, for a minute."""
    env = {
        "PLUGINS_RESILIENCE_MAX_CONCURRENT_REQUESTS": "1",
        "PLUGINS_RESILIENCE_MAX_QUEUED_REQUESTS": "1",
        "PLUGINS_RESILIENCE_MAX_QUEUE_WAIT_MS": "60000",
        "LOCAL_MODELS_ENABLED": "false",
    }
    with running_gateway(tmp_path_factory.mktemp("narrow"), env) as gateway:
        yield gateway


@contextmanager
def full(gateway: Gateway) -> Iterator[None]:
    """The one place is taken."""
    gateway.upstream.reset()
    gateway.upstream.on("gpt", answers(hold_after=0))
    answered: list[int] = []
    asking = threading.Thread(target=lambda: answered.append(gateway.ask("chat").status_code))
    asking.start()
    gateway.upstream.wait_until(lambda: gateway.upstream.to("gpt"))
    yield
    gateway.upstream.release()
    asking.join(10)
    assert answered == [200]


@pytest.mark.requirement("RES-3")
def test_whoever_waits_for_a_place_keeps_its_own_deadline(narrow: Gateway) -> None:
    """504 as anywhere else, on each wire; nothing was begun."""
    with full(narrow):
        for name in ("chat, streamed", "messages", "embeddings"):
            path, _, body = CALLS[name]
            given_up(narrow, path, body)
        answer, _ = ask(narrow, CALLS["chat"][0], CALLS["chat"][2])
        assert answer.json()["error"]["code"] == "upstream_timeout"
        assert len(narrow.upstream.requests) == 1


@pytest.mark.requirement("RES-3")
def test_whoever_leaves_while_it_waits_for_a_place_makes_room(narrow: Gateway) -> None:
    """At once: the place in the queue is the next one's, which waits its time; before, it is refused."""
    path, _, body = CALLS["chat"]
    with full(narrow):
        with narrow.http() as client, pytest.raises(httpx.ReadTimeout):
            client.post(path, json=body, timeout=0.3)
        deadline_s = time.monotonic() + 5
        while (answer := ask(narrow, path, body)[0]).status_code != 504:
            assert answer.json()["error"]["code"] == "overloaded"
            assert time.monotonic() < deadline_s, "it keeps its place"
    assert narrow.ask("chat").status_code == 200
