"""What a caller may do: the words that routes ask for, roles are made of and keys are limited to.

Default deny: a route that is not public names one of them, and nobody who lacks it gets in.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

Permission = Literal[
    "self:read",
    "models:use",
    "documents:read",
    "documents:write",
    "keys:manage",
    "users:manage",
    "provider-keys:manage",
    "audit:read",
    "usage:read",
    "limits:manage",
    "platform:manage",
]

EVERYTHING: frozenset[Permission] = frozenset(get_args(Permission))

MEANINGS: dict[Permission, str] = {
    "self:read": "see who one is, and end one's own session",
    "models:use": "call models",
    "documents:read": "list, read and search documents",
    "documents:write": "add, change and delete documents and stores",
    "keys:manage": "make, list and revoke the tenant's keys",
    "users:manage": "make, change and delete the tenant's users",
    "provider-keys:manage": "set the tenant's own keys of model vendors",
    "audit:read": "read the tenant's audit log",
    "usage:read": "see the tenant's calls and what they cost",
    "limits:manage": "set limits and budgets of the tenant's users, keys and models",
    "platform:manage": "make tenants, and whatever concerns all of them",
}

PERMISSION = "permission"
"""Key in a route's `opt`."""

_PUBLIC = "public"


def needs(permission: Permission) -> dict[str, Any]:
    """For a handler's `opt`: who calls must have this."""
    return {PERMISSION: permission}


def is_public(opt: dict[str, Any]) -> bool:
    """Whether a route is open to nobody in particular."""
    return opt.get(_PUBLIC) is True
