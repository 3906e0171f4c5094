"""Who is calling. The tenant comes from the credential alone, never from a header or a body."""

from __future__ import annotations

from typing import NewType
from uuid import UUID

import msgspec

TenantId = NewType("TenantId", UUID)
KeyId = NewType("KeyId", UUID)

DEFAULT_TENANT_ID = TenantId(UUID("00000000-0000-7000-8000-000000000000"))
"""The tenant of anonymous callers while the security plugin is off; made by the first migration."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of one request. `tenant_id` is None for the platform administrator, who belongs to no tenant."""

    tenant_id: TenantId | None
    key_id: KeyId | None = None
    user_id: UUID | None = None
    models: frozenset[str] | None = None
    """Model aliases this caller may use; None: all."""
    is_platform_admin: bool = False

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


ANONYMOUS = Principal(tenant_id=DEFAULT_TENANT_ID, is_platform_admin=True)
"""The caller when the security plugin is off: the default tenant, with the platform administrator's rights."""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An API key as the look-up knows it. `expires_at` is epoch seconds, UTC."""

    principal: Principal
    expires_at: float | None = None
    revoked: bool = False
