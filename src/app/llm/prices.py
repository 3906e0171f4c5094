"""Prices in integers: nano-dollars per million tokens. A cost is an integer of nano-dollars, rounded once.

litellm's price file is read as data from its installed package; litellm itself is not imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import msgspec

NUSD_PER_USD = 1_000_000_000
TOKENS_PER_UNIT = 1_000_000
PRICE_FILE = "model_prices_and_context_window_backup.json"


class Tokens(Protocol):
    """A call's, by kind: those of caches are part of the input, those of reasoning of the output."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def reasoning_tokens(self) -> int: ...


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Nano-dollars per million tokens. $0.15 a million tokens is 150,000,000. None: the same as input, or output."""

    input_nusd_per_mtok: int
    output_nusd_per_mtok: int
    cached_nusd_per_mtok: int | None = None
    """Input that the vendor had in its prompt cache."""
    cache_write_nusd_per_mtok: int | None = None
    """Input that the vendor put there."""
    reasoning_nusd_per_mtok: int | None = None

    def cost_nusd(self, tokens: Tokens) -> int:
        """Half a nano-dollar and more is rounded up; all kinds of tokens are added before rounding."""
        cached, written, reasoning = tokens.cached_tokens, tokens.cache_write_tokens, tokens.reasoning_tokens
        total = (tokens.input_tokens - cached - written) * self.input_nusd_per_mtok
        total += (tokens.output_tokens - reasoning) * self.output_nusd_per_mtok
        total += cached * _or(self.cached_nusd_per_mtok, self.input_nusd_per_mtok)
        total += written * _or(self.cache_write_nusd_per_mtok, self.input_nusd_per_mtok)
        total += reasoning * _or(self.reasoning_nusd_per_mtok, self.output_nusd_per_mtok)
        return (total + TOKENS_PER_UNIT // 2) // TOKENS_PER_UNIT

    def most_nusd(self, input_tokens: int, output_tokens: int) -> int:
        """What so many tokens cost at most, whatever kinds of them they turn out to be."""
        dearest_in = max(self.input_nusd_per_mtok, self.cached_nusd_per_mtok or 0, self.cache_write_nusd_per_mtok or 0)
        dearest_out = max(self.output_nusd_per_mtok, self.reasoning_nusd_per_mtok or 0)
        total = input_tokens * dearest_in + output_tokens * dearest_out
        return (total + TOKENS_PER_UNIT // 2) // TOKENS_PER_UNIT


def _or(price: int | None, other: int) -> int:
    return other if price is None else price


FREE = Price(input_nusd_per_mtok=0, output_nusd_per_mtok=0)
"""Models on this machine."""


def price_of(
    input_usd_per_token: object,
    output_usd_per_token: object,
    cached: object = None,
    cache_write: object = None,
    reasoning: object = None,
) -> Price | None:
    """From dollars per token, as litellm's files give them. None unless the input price is a number ≥ 0."""
    given = _nusd_per_mtok(input_usd_per_token)
    if given is None:
        return None
    return Price(
        input_nusd_per_mtok=given,
        output_nusd_per_mtok=_nusd_per_mtok(output_usd_per_token) or 0,  # embedding models have none
        cached_nusd_per_mtok=_nusd_per_mtok(cached),
        cache_write_nusd_per_mtok=_nusd_per_mtok(cache_write),
        reasoning_nusd_per_mtok=_nusd_per_mtok(reasoning),
    )


def _nusd_per_mtok(usd_per_token: object) -> int | None:
    if isinstance(usd_per_token, bool) or not isinstance(usd_per_token, int | float | str):
        return None
    try:
        # Through the decimal text: 1.5e-07 is meant as written, not as the nearest binary fraction.
        nusd = Decimal(str(usd_per_token)) * NUSD_PER_USD * TOKENS_PER_UNIT
    except ArithmeticError:
        return None
    if not nusd.is_finite() or nusd < 0:
        return None
    return int(nusd.to_integral_value(ROUND_HALF_UP))


class _Entry(msgspec.Struct):
    """The part of a price file's entry that is used."""

    litellm_provider: str = ""
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None
    cache_read_input_token_cost: float | None = None
    cache_creation_input_token_cost: float | None = None
    output_cost_per_reasoning_token: float | None = None
    mode: str | None = None


class KnownModel(msgspec.Struct, frozen=True):
    """What the price file says of a model."""

    price: Price | None
    mode: str | None


class PriceTable:
    """litellm's price file, its entries unread until they are asked for: 3 MB of JSON in 10 ms."""

    def __init__(self) -> None:
        self._table = _read_table()

    def find(self, name: str) -> KnownModel | None:
        """By its whole name (`openai/gpt-4o-mini`); else without its provider, if the entry is that provider's: others
        have other prices."""
        provider, _, model = name.partition("/")
        entry = _entry(self._table.get(name))
        if entry is None:
            entry = _entry(self._table.get(model))
            if entry is None or not entry.litellm_provider.startswith(provider):  # `bedrock` has `bedrock_converse`
                return None
        price = price_of(
            entry.input_cost_per_token,
            entry.output_cost_per_token,
            entry.cache_read_input_token_cost,
            entry.cache_creation_input_token_cost,
            entry.output_cost_per_reasoning_token,
        )
        return KnownModel(price, entry.mode)


def known_models(names: Iterable[str]) -> Mapping[str, KnownModel]:
    """Those of `names` that the price file knows. Without names the file is not opened, and nothing of it is kept."""
    wanted = set(names)
    if not wanted:
        return {}
    table = PriceTable()
    return {name: known for name in wanted if (known := table.find(name)) is not None}


def _entry(raw: msgspec.Raw | None) -> _Entry | None:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=_Entry)
    except msgspec.ValidationError:
        return None


def _read_table() -> Mapping[str, msgspec.Raw]:
    spec = find_spec("litellm")  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        return {}
    path = Path(spec.submodule_search_locations[0]) / PRICE_FILE
    table: dict[str, msgspec.Raw] = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
    return table
