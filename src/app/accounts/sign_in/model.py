"""Sign-in, as the rules see it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from plugins.contract.principal import Role


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever has this name in this tenant. `user_id` None: nobody."""

    tenant_id: UUID | None
    user_id: UUID | None = None
    password_hash: str | None = None
    role: Role | None = None
    is_disabled: bool = False

    def __repr__(self) -> str:
        return f"Candidate(tenant_id={self.tenant_id}, user_id={self.user_id})"


class RefreshToken(msgspec.Struct, frozen=True, kw_only=True):
    """A refresh token that was shown."""

    tenant_id: UUID
    session_id: UUID
    is_used: bool


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in that goes on. `user_id`: whose."""

    id: UUID
    tenant_id: UUID
    user_id: UUID
    expires_at: datetime


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What a sign-in or a refresh hands out. `expires_in`: seconds of the access token."""

    access_token: str
    refresh_token: str
    expires_in: int
