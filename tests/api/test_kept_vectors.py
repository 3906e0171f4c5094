"""Vectors that are given again: of each text by itself, bit by bit the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway
from upstream import embeds, fails
from upstream_server import Exchange, Script

pytestmark = pytest.mark.requirement("PERF-1")

PATH = "/v1/embeddings"
KEEP = {"mode": "readwrite"}

Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(gateway: Gateway) -> Ask:
    gateway.upstream.on("vec", embeds(usage=(5, 0)))

    def asked(*texts: Any, key: str | None = None, **fields: object) -> httpx.Response:
        body = {"model": "vectors", "input": list(texts), "cache": KEEP, **fields}
        return gateway.post(body, PATH, key).raise_for_status()

    return asked


def new(n: int = 1) -> list[str]:
    """Texts that nobody has embedded before."""
    return [f"{number}{uuid4().hex}" for number in range(n)]


def state(response: httpx.Response) -> str:
    return response.headers["x-wattos-cache"]


def rows(response: httpx.Response) -> list[Any]:
    return [one["embedding"] for one in response.json()["data"]]


def sent(gateway: Gateway) -> list[Any]:
    return [one.body["input"] for one in gateway.upstream.requests]


def irregular(*numbers: float) -> Script:
    """Every text's vector."""

    async def script(exchange: Exchange) -> None:
        data = [{"index": n, "embedding": numbers} for n, _ in enumerate(exchange.received.body["input"])]
        await exchange.json(200, {"object": "list", "data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}})

    return script


def test_vectors_are_not_kept_unless_asked_for(gateway: Gateway, ask: Ask) -> None:
    texts = new()
    assert [state(ask(*texts, cache=None)) for _ in range(2)] == ["off", "off"]
    assert len(gateway.upstream.requests) == 2


def test_only_new_texts_are_sent(gateway: Gateway, ask: Ask) -> None:
    """In their order; rows come back in the request's. What is not sent is not used: the usage says so."""
    one, two, three, four = new(4)
    ask(two, four)
    mixed = ask(one, two, three, four)
    assert sent(gateway) == [[two, four], [one, three]]
    assert state(mixed) == "miss"
    assert [row[0] for row in rows(mixed)] == [len(text) for text in (one, two, three, four)]
    again = ask(four, three, two, one)
    assert (state(again), again.json()["usage"]["total_tokens"]) == ("hit", 0)
    assert rows(again) == rows(mixed)[::-1]
    assert len(gateway.upstream.requests) == 2


def test_a_hit_costs_nothing_and_says_what_it_saved(ask: Ask) -> None:
    """Of a list each text has its part of what all cost."""
    one, two = new(2)
    first = ask(one, two)
    cost = int(first.headers["x-wattos-cost-nusd"])
    assert cost == 5 * 150
    half, whole = ask(one), ask(two, one)
    assert (state(half), half.headers["x-wattos-cost-nusd"]) == ("hit", "0")
    assert half.headers["x-wattos-saved-nusd"] == str(cost // 2)
    assert whole.headers["x-wattos-saved-nusd"] == str(cost // 2 * 2)
    assert whole.headers["x-wattos-attempts"] == "0"


EXACT = [(0.5, -0.25, 3.0), (1, -2, 3), (0.30000001192092896, 1.401298464324817e-45, -0.0)]
FINE = [(0.1, 1e-300, -0.0), (1e300, 0.30000001192092896, 1e-45)]
"""Numbers that float32 does not say."""


@pytest.mark.parametrize(
    ("form", "numbers"), [*(("float", it) for it in (*EXACT, *FINE)), *(("base64", it) for it in (*EXACT, FINE[0]))]
)
def test_the_numbers_are_the_same_to_the_bit(gateway: Gateway, ask: Ask, form: str, numbers: Sequence[float]) -> None:
    """In both forms, and one entry serves both."""
    gateway.upstream.on("vec", irregular(*numbers))
    texts = new()
    first, second = (ask(*texts, encoding_format=form) for _ in range(2))
    assert state(second) == "hit"
    assert second.text.partition('"usage"')[0] == first.text.partition('"usage"')[0]
    assert state(ask(*texts, encoding_format="float")) == "hit"


def test_what_changes_a_vector_is_another_question(ask: Ask) -> None:
    """Which model, for what, how long, and what else the vendor is told; not whose it is."""
    texts = new()
    ask(*texts)
    for fields in ({"input_type": "query"}, {"dimensions": 2}, {"truncate": "end"}):
        assert [state(ask(*texts, **fields)) for _ in range(2)] == ["miss", "hit"]
    assert state(ask(*texts, user="somebody")) == "hit"
    assert [state(ask([1, 2])), state(ask([1, 2])), state(ask("[1,2]"))] == ["miss", "hit", "miss"]


def test_two_tenants_share_no_vector(gateway: Gateway, ask: Ask) -> None:
    other, texts = gateway.server.make_key("two"), new()
    assert [state(ask(*texts, key=key)) for key in (None, other, None, other)] == ["miss", "miss", "hit", "hit"]


def test_a_long_list_is_not_looked_up(gateway: Gateway, ask: Ask) -> None:
    """Whoever embeds a corpus would push out what is asked for again."""
    texts = new(33)
    assert [state(ask(*texts)) for _ in range(2)] == ["off", "off"]
    assert state(ask(texts[0])) == "miss"


def test_a_failure_is_not_kept_and_a_hit_needs_no_target(gateway: Gateway, ask: Ask) -> None:
    kept, fresh = new(2)
    ask(kept)
    gateway.upstream.on("vec", fails(400))
    assert gateway.post({"model": "vectors", "input": fresh, "cache": KEEP}, PATH).status_code == 400
    assert state(ask(kept)) == "hit"
    gateway.upstream.on("vec", embeds())
    assert state(ask(fresh)) == "miss"
