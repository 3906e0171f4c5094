"""The one table of who may what: a role's permissions, and what of them a key gets.

| permission | viewer | editor | admin | a key by default |
| --- | --- | --- | --- | --- |
| self:read, models:use, documents:read | ✓ | ✓ | ✓ | ✓ |
| documents:write | | ✓ | ✓ | ✓ |
| keys:manage, users:manage, provider-keys:manage, audit:read, usage:read, limits:manage | | | ✓ | by scope |
| platform:manage: the platform administrator's alone | | | | |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import cast

from plugins.contract.permissions import EVERYTHING, Permission
from plugins.contract.principal import Role

_READS: frozenset[Permission] = frozenset({"self:read", "models:use", "documents:read"})
_WRITES: frozenset[Permission] = frozenset({*_READS, "documents:write"})

OF_ROLE: Mapping[Role, frozenset[Permission]] = {
    "viewer": _READS,
    "editor": _WRITES,
    "admin": EVERYTHING - {"platform:manage"},
}

OF_KEY = _WRITES
"""Of a key without scopes: all that a program does with models and documents, and nothing about accounts."""

SCOPES: frozenset[Permission] = OF_ROLE["admin"]
"""What a key's scopes may name."""


@lru_cache(maxsize=1024)
def of_key(scopes: tuple[str, ...], role: Role | None) -> frozenset[Permission]:
    """A key's own permissions: its scopes, or the default; of a user's key, never more than the user has."""
    asked = frozenset(cast("Iterable[Permission]", (*scopes, "self:read")))
    granted = asked & SCOPES if scopes else OF_KEY
    return granted if role is None else granted & OF_ROLE[role]
