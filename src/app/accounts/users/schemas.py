"""Users on the wire. Unknown fields are refused: nobody sets what is not theirs to set."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from app.accounts.users.model import User
from app.ids import encode_id
from plugins.contract.principal import Role

Email = Annotated[str, msgspec.Meta(min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
DisplayName = Annotated[str, msgspec.Meta(max_length=200)]
Password = Annotated[str, msgspec.Meta(min_length=12, max_length=256)]
ExternalId = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class UserCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without `password` and `external_id` nobody can sign in as this user, but it can have keys.

    `tenant_id` is for the platform administrator; everybody else's is their own.
    """

    email: Email
    name: DisplayName = ""
    role: Role = "viewer"
    password: Password | None = None
    external_id: ExternalId | None = None
    tenant_id: str | None = None


USER_EXAMPLES = {"a teacher": {"email": "a.muster@schule.example", "name": "A. Muster", "role": "editor"}}


class UserUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays. A new password ends all sessions; so does `disabled`, and keys with them."""

    email: Email | UnsetType = UNSET
    name: DisplayName | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    password: Password | UnsetType = UNSET
    external_id: ExternalId | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET


UPDATE_EXAMPLES = {"another role": {"role": "admin"}, "shut out": {"disabled": True}}


class UserOut(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant_id: str
    email: str
    name: str
    role: Role
    external_id: str | None
    disabled: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, user: User) -> UserOut:
        return cls(
            id=encode_id("user", user.id),
            tenant_id=encode_id("ten", user.tenant_id),
            email=user.email,
            name=user.name,
            role=user.role,
            external_id=user.external_id,
            disabled=user.disabled_at is not None,
            created_at=user.created_at,
            updated_at=user.updated_at,
        )
