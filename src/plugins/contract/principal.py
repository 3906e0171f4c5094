"""Who is calling. The tenant comes from the credential alone, never from a header or a body."""

from __future__ import annotations

from typing import Literal, NewType
from uuid import UUID

import msgspec

from plugins.contract.permissions import EVERYTHING, Permission

TenantId = NewType("TenantId", UUID)
KeyId = NewType("KeyId", UUID)

Role = Literal["admin", "editor", "viewer"]

DEFAULT_TENANT_ID = TenantId(UUID("00000000-0000-7000-8000-000000000000"))
"""The tenant of anonymous callers while the security plugin is off; made by the first migration."""


class Principal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The caller of one request. `tenant_id` is None for the platform administrator, who belongs to no tenant.

    With a key it has `key_id`; signed in as a person, `session_id` or (an external provider's token) neither.
    """

    tenant_id: TenantId | None
    key_id: KeyId | None = None
    user_id: UUID | None = None
    session_id: UUID | None = None
    role: Role | None = None
    """The user's, if there is one."""
    permissions: frozenset[Permission] = frozenset()
    models: frozenset[str] | None = None
    """Model aliases this caller may use; None: all."""
    is_platform_admin: bool = False

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions


ANONYMOUS = Principal(tenant_id=DEFAULT_TENANT_ID, is_platform_admin=True, permissions=EVERYTHING)
"""The caller when the security plugin is off: the default tenant, with the platform administrator's rights."""


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a credential stands for, as the look-up knows it. `expires_at` is epoch seconds, UTC.

    `revoked`: the key, the session, or the user that either belongs to.
    """

    principal: Principal
    expires_at: float | None = None
    revoked: bool = False
