"""How much of its own rights a caller may hand on."""

from __future__ import annotations

from app.accounts.roles import OF_ROLE
from plugins.contract.errors import PermissionDenied
from plugins.contract.permissions import Permission
from plugins.contract.principal import Principal, Role


def require_as_much(principal: Principal, granted: frozenset[Permission]) -> None:
    """Nobody hands on what they do not have. Raises: PermissionDenied that names what is missing."""
    missing = granted - principal.permissions
    if missing:
        raise PermissionDenied(f"you cannot give what you do not have: {', '.join(sorted(missing))}")


def require_rank(principal: Principal, role: Role) -> None:
    """Who manages a user can become that user, so needs at least its rights. Raises: PermissionDenied."""
    require_as_much(principal, OF_ROLE[role])
