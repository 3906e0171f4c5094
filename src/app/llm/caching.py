"""Whether an answer may be given again: what the request wishes, what its alias is configured for, and what follows."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

CacheMode = Literal["off", "read", "write", "readwrite"]
CacheScope = Literal["tenant", "user"]

DEFAULT_TTL_S = 300.0
"""As long as an answer may be old without anybody minding; who knows better says so."""


class CacheWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's `cache`, or an alias's `x_wattos_cache`; what the one leaves out the other may say. `ttl_s` in
    seconds. `scope`: whom an answer is given to again, all of the tenant, or who got it alone."""

    mode: CacheMode | UnsetType = UNSET
    ttl_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | UnsetType = UNSET
    """A model's answer of yesterday is no answer of today: a day at most."""
    scope: CacheScope | UnsetType = UNSET


NO_WISH = CacheWish()
NEVER = CacheWish(mode="off")


class CachePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one request."""

    mode: CacheMode
    ttl_s: float
    scope: CacheScope

    @property
    def reads(self) -> bool:
        return self.mode in {"read", "readwrite"}

    @property
    def writes(self) -> bool:
        return self.mode in {"write", "readwrite"}


def agreed(request: CacheWish, alias: CacheWish | None) -> CachePolicy | None:
    """The request's wish goes before the alias's, but what either switches off is off. None: it is."""
    alias = alias or NO_WISH
    mode = alias.mode if request.mode is UNSET else request.mode
    if mode is UNSET or mode == "off" or alias.mode == "off":
        return None
    ttl_s = alias.ttl_s if request.ttl_s is UNSET else request.ttl_s
    scope = alias.scope if request.scope is UNSET else request.scope
    return CachePolicy(
        mode=mode,
        ttl_s=DEFAULT_TTL_S if ttl_s is UNSET else ttl_s,
        scope="tenant" if scope is UNSET else scope,
    )
