"""Whose things a caller may name: its own tenant's; the platform administrator names whose."""

from __future__ import annotations

from uuid import UUID

from app.errors import InvalidRequest, NotFound
from app.ids import decode_id
from plugins.contract.principal import Principal


def tenant_of(principal: Principal, asked: str | None) -> UUID:
    """Raises: NotFound for another tenant than one's own, there or not; InvalidRequest where it must be named."""
    if asked is not None:
        named = decode_id("ten", asked)
        if principal.is_platform_admin or named == principal.tenant_id:
            return named
        raise NotFound("no tenant with this id")
    if principal.tenant_id is None:
        raise InvalidRequest(
            "tenant_id is needed: your key belongs to no tenant", param="tenant_id", code="missing_field"
        )
    return principal.tenant_id


def own_tenant(principal: Principal) -> UUID | None:
    """Where to look for a thing by its id: None is everywhere, for the platform administrator."""
    return None if principal.is_platform_admin else principal.tenant_id
