"""What a call may use and cost, before it is sent: rather too much than too little."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.llm.accounting import MAX_TOKENS, UNSAID_OUTPUT_TOKENS, expected
from app.llm.model import Call, EmbeddingCall, Plan, Target
from app.llm.prices import TOKENS_PER_UNIT, Price

FLAT = Price(input_nusd_per_mtok=TOKENS_PER_UNIT, output_nusd_per_mtok=2 * TOKENS_PER_UNIT)
"""A nano-dollar a token in, two a token out."""


def target(name: str = "t", price: Price | None = FLAT) -> Target:
    return Target(id=name, alias="m", provider_model=f"openai/{name}", transport="direct", price=price)


def call(endpoint: Any = "chat/completions", **fields: object) -> Call:
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    return Call(alias="m", fields=raw, endpoint=endpoint)


@pytest.mark.parametrize(
    ("fields", "output_tokens"),
    [
        ({}, UNSAID_OUTPUT_TOKENS),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9}, 9),
        ({"max_tokens": 90, "max_completion_tokens": 1}, 90),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"max_tokens": None, "n": None}, UNSAID_OUTPUT_TOKENS),
        ({"max_tokens": "many"}, UNSAID_OUTPUT_TOKENS),
        ({"max_tokens": -5}, UNSAID_OUTPUT_TOKENS),
        ({"max_tokens": 10**30}, MAX_TOKENS),
    ],
)
def test_what_may_come_out(fields: dict[str, object], output_tokens: int) -> None:
    assert expected(call(**fields), Plan(targets=(target(),))).output_tokens == output_tokens


@pytest.mark.parametrize(
    ("prompt", "n_answers", "least_input"),
    [
        ("one", 1, 1),
        (["one", "two", "three"], 3, 3),
        ([1, 2, 3, 4, 5], 1, 5),
        ([[1, 2, 3], [4, 5, 6]], 2, 6),
        ([], 1, 0),
    ],
)
def test_each_prompt_of_a_completion_is_answered(prompt: object, n_answers: int, least_input: int) -> None:
    """And a token that is given as its number is one, however few digits it has."""
    found = expected(call("completions", prompt=prompt, max_tokens=10, best_of=2), Plan(targets=(target(),)))
    assert found.output_tokens == 20 * n_answers
    assert found.input_tokens >= least_input


def test_the_dearest_target_and_the_dearest_kind_of_token_count() -> None:
    """Whoever may be asked, in the end: fallbacks for long and refused requests too."""
    dear = Price(
        input_nusd_per_mtok=TOKENS_PER_UNIT,
        output_nusd_per_mtok=TOKENS_PER_UNIT,
        cache_write_nusd_per_mtok=3 * TOKENS_PER_UNIT,
        reasoning_nusd_per_mtok=5 * TOKENS_PER_UNIT,
    )
    asked = call(max_tokens=100, messages="x" * 298)  # with its quotes 300 bytes
    for plan in (
        Plan(targets=(target(), target("dear", dear))),
        Plan(targets=(target(),), on_context=(target("dear", dear),)),
        Plan(targets=(target(),), on_policy=(target("dear", dear),)),
    ):
        found = expected(asked, plan)
        assert found.input_tokens == (300 + 3) // 3
        assert found.estimate_nusd == 3 * found.input_tokens + 5 * 100
        assert found.unpriced is None


def test_a_target_without_a_price_is_named() -> None:
    found = expected(call(max_tokens=1), Plan(targets=(target(), target("free?", None))))
    assert (found.unpriced, found.estimate_nusd is not None) == ("free?", True)
    assert expected(call(), Plan(targets=(target("free?", None),))).estimate_nusd is None
    assert expected(call(), Plan(targets=())).estimate_nusd == 0


def test_texts_to_embed_count_by_their_bytes_and_tokens_by_their_number() -> None:
    texts = expected(EmbeddingCall(alias="m", texts=("für alle", "日本語")), Plan(targets=(target(),)))
    assert texts.input_tokens == (9 // 3 + 1) + (9 // 3 + 1)
    tokens = expected(EmbeddingCall(alias="m", texts=((1, 2, 3), (4,))), Plan(targets=(target(),)))
    assert (tokens.input_tokens, tokens.output_tokens) == (4, 0)
