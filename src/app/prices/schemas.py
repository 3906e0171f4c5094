"""Prices on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from app.ids import encode_id
from app.llm.model import PriceSource, Target
from app.llm.prices import Price
from app.prices.model import PriceVersion

Nusd = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
"""Nano-dollars per million tokens: $0.15 is 150,000,000. At most a dollar a token."""
TargetId = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
"""As `app.llm.deployments` has them."""
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class PriceSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without `cached…` and `cache_write…` such tokens cost what input does, without `reasoning…` what output does.

    `input…` and `output…` null: from then on the tenant pays what everybody does.
    """

    target: TargetId
    input_nusd_per_mtok: Nusd | None
    output_nusd_per_mtok: Nusd | None
    cached_nusd_per_mtok: Nusd | None = None
    cache_write_nusd_per_mtok: Nusd | None = None
    reasoning_nusd_per_mtok: Nusd | None = None
    valid_from: Moment | None = None
    """Now unless said; not in the past."""
    tenant_id: str | None = None


SET_EXAMPLES = {
    "of a tenant, from a day on": {
        "tenant_id": "ten_0190b3e28c6f7b3a9a52d7f8f1a4c9e1",
        "target": "openai/gpt-4o-mini",
        "input_nusd_per_mtok": 150_000_000,
        "output_nusd_per_mtok": 600_000_000,
        "cached_nusd_per_mtok": 75_000_000,
        "valid_from": "2100-01-01T00:00:00Z",
    },
    "as everybody again": {
        "tenant_id": "ten_0190b3e28c6f7b3a9a52d7f8f1a4c9e1",
        "target": "openai/gpt-4o-mini",
        "input_nusd_per_mtok": None,
        "output_nusd_per_mtok": None,
    },
}


class PriceOut(msgspec.Struct, frozen=True, kw_only=True):
    """What a target costs the tenant now. `source` null: no price is known. `since`: of the tenant's own price.

    `model`: the alias; null for a price of the tenant's that no alias names, as behind a wildcard.
    """

    target: str
    model: str | None
    input_nusd_per_mtok: int | None
    output_nusd_per_mtok: int | None
    cached_nusd_per_mtok: int | None
    cache_write_nusd_per_mtok: int | None
    reasoning_nusd_per_mtok: int | None
    source: PriceSource | None
    since: datetime | None

    @classmethod
    def of_target(cls, target: Target, own: PriceVersion | None) -> PriceOut:
        if own is not None:
            return cls.of_version(own, target.alias)
        return cls(
            target=target.id, model=target.alias, source=target.price_source, since=None, **_numbers(target.price)
        )

    @classmethod
    def of_version(cls, own: PriceVersion, model: str | None) -> PriceOut:
        return cls(target=own.target, model=model, source="tenant", since=own.valid_from, **_numbers(own.price))


class PriceList(msgspec.Struct, frozen=True, kw_only=True):
    """In the order of the configuration."""

    data: list[PriceOut]


class PriceVersionOut(msgspec.Struct, frozen=True, kw_only=True):
    """One version. It holds from `valid_from` until the next one of its target does; null: what everybody pays."""

    id: str
    tenant_id: str
    target: str
    input_nusd_per_mtok: int | None
    output_nusd_per_mtok: int | None
    cached_nusd_per_mtok: int | None
    cache_write_nusd_per_mtok: int | None
    reasoning_nusd_per_mtok: int | None
    valid_from: datetime
    created_at: datetime

    @classmethod
    def of(cls, version: PriceVersion) -> PriceVersionOut:
        return cls(
            id=encode_id("price", version.id),
            tenant_id=encode_id("ten", version.tenant_id),
            target=version.target,
            valid_from=version.valid_from,
            created_at=version.created_at,
            **_numbers(version.price),
        )


def _numbers(price: Price | None) -> dict[str, int | None]:
    if price is None:
        return dict.fromkeys(Price.__struct_fields__)
    return msgspec.structs.asdict(price)
