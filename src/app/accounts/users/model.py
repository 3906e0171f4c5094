"""Users, as the rules see them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from plugins.contract.principal import Role


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person of one tenant. `external_id`: the `sub` of the external provider's tokens."""

    id: UUID
    tenant_id: UUID
    email: str
    name: str
    role: Role
    external_id: str | None
    disabled_at: datetime | None
    created_at: datetime
    updated_at: datetime
