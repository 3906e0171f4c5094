"""Own provider keys on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from app.ids import encode_id
from app.provider_keys.model import ProviderKey

Provider = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern="^[a-z0-9_-]+$")]
Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=1024, pattern=r"^[!-~]+$")]
"""As a header can carry it."""
Url = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
Label = Annotated[str, msgspec.Meta(max_length=200)]


class ProviderKeyPut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`provider` as before the slash in MODELS_CONFIG's `model`. `base_url`: where it is good, if not at the vendor.

    `tenant_id` is for the platform administrator; everybody else's is their own.
    """

    provider: Provider
    key: Secret
    name: Label = ""
    base_url: Url | None = None
    tenant_id: str | None = None

    def __repr__(self) -> str:
        return f"ProviderKeyPut(provider={self.provider!r})"


PUT_EXAMPLES = {"of OpenAI": {"provider": "openai", "key": "sk-of-the-tenant", "name": "faculty of physics"}}


class ProviderKeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is listed: of the secret the last characters alone."""

    id: str
    tenant_id: str
    provider: str
    name: str
    base_url: str | None
    hint: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, key: ProviderKey) -> ProviderKeyOut:
        return cls(
            id=encode_id("pkey", key.id),
            tenant_id=encode_id("ten", key.tenant_id),
            provider=key.provider,
            name=key.name,
            base_url=key.base_url,
            hint=key.hint,
            created_at=key.created_at,
            updated_at=key.updated_at,
        )
