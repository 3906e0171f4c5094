"""Sign-in on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from app.accounts.sign_in.model import Tokens
from app.accounts.users.schemas import Password, UserOut
from app.ids import encode_id
from plugins.contract.permissions import Permission
from plugins.contract.principal import Principal

Given = Annotated[str, msgspec.Meta(min_length=1, max_length=254)]
GivenPassword = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
"""Shorter ones are no passwords here, and are simply wrong."""


class SignIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`tenant`: its slug."""

    tenant: Given
    email: Given
    password: GivenPassword


SIGN_IN_EXAMPLES = {
    "a teacher": {"tenant": "schule", "email": "a.muster@schule.example", "password": "Apfelbaum im Regen 7"}
}


class Refresh(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    refresh_token: Given


REFRESH_EXAMPLES = {"the last one": {"refresh_token": "rt-wattos-…"}}


class PasswordChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    current_password: GivenPassword
    new_password: Password


PASSWORD_EXAMPLES = {
    "a better one": {"current_password": "Apfelbaum im Regen 7", "new_password": "vier Birnen auf dem Tisch"}
}


class TokensOut(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 6749's shape. `expires_in`: seconds of the access token. The refresh token is good once."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # the name of a scheme

    @classmethod
    def of(cls, tokens: Tokens) -> TokensOut:
        return cls(access_token=tokens.access_token, refresh_token=tokens.refresh_token, expires_in=tokens.expires_in)


class MeOut(msgspec.Struct, frozen=True, kw_only=True):
    """Who the credential is. `models` null: all."""

    tenant_id: str | None
    key_id: str | None
    user: UserOut | None
    permissions: list[Permission]
    models: list[str] | None

    @classmethod
    def of(cls, principal: Principal, user: UserOut | None) -> MeOut:
        return cls(
            tenant_id=None if principal.tenant_id is None else encode_id("ten", principal.tenant_id),
            key_id=None if principal.key_id is None else encode_id("key", principal.key_id),
            user=user,
            permissions=sorted(principal.permissions),
            models=None if principal.models is None else sorted(principal.models),
        )
