"""Prices in integers: nano-dollars per million tokens. A cost is an integer of nano-dollars, rounded once.

litellm's price file is read as data from its installed package; litellm itself is not imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

NUSD_PER_USD = 1_000_000_000
TOKENS_PER_UNIT = 1_000_000
PRICE_FILE = "model_prices_and_context_window_backup.json"


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Nano-dollars per million tokens. $0.15 a million tokens is 150,000,000."""

    input_nusd_per_mtok: int
    output_nusd_per_mtok: int

    def cost_nusd(self, input_tokens: int, output_tokens: int) -> int:
        """Half a nano-dollar and more is rounded up; both kinds of tokens are added before rounding."""
        total = input_tokens * self.input_nusd_per_mtok + output_tokens * self.output_nusd_per_mtok
        return (total + TOKENS_PER_UNIT // 2) // TOKENS_PER_UNIT


FREE = Price(input_nusd_per_mtok=0, output_nusd_per_mtok=0)
"""Models on this machine."""


def price_of(input_usd_per_token: object, output_usd_per_token: object) -> Price | None:
    """From dollars per token, as litellm's files give them. None unless the input price is a number ≥ 0."""
    given = _nusd_per_mtok(input_usd_per_token)
    if given is None:
        return None
    # Embedding models have no output price.
    return Price(input_nusd_per_mtok=given, output_nusd_per_mtok=_nusd_per_mtok(output_usd_per_token) or 0)


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

    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None
    mode: str | None = None


class KnownModel(msgspec.Struct, frozen=True):
    """What the price file says of a model."""

    price: Price | None
    mode: str | None


def known_models(names: Iterable[str]) -> Mapping[str, KnownModel]:
    """Those of `names` (`openai/gpt-4o-mini`) that the price file knows, with or without their provider's prefix."""
    table = _table()
    found: dict[str, KnownModel] = {}
    for name in names:
        raw = table.get(name) or table.get(name.partition("/")[2])
        if raw is None:
            continue
        try:
            entry = msgspec.convert(msgspec.json.decode(raw), _Entry)
        except msgspec.ValidationError:
            continue
        price = price_of(entry.input_cost_per_token, entry.output_cost_per_token)
        found[name] = KnownModel(price, entry.mode)
    return found


@cache
def _table() -> Mapping[str, msgspec.Raw]:
    """3 MB of JSON in 10 ms: entries stay raw, and only those asked for are decoded."""
    spec = find_spec("litellm")  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        return {}
    path = Path(spec.submodule_search_locations[0]) / PRICE_FILE
    table: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
    return table
