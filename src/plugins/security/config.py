"""Settings of the security plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from plugins.contract.env import load_settings
from plugins.contract.errors import SettingsError
from plugins.contract.settings import SettingsGroup

_MIN_ADMIN_KEY_CHARACTERS = 32


class SecuritySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`PLUGINS_SECURITY_…`."""

    key_cache_max_age_s: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """How far behind the database what is known of a credential may be: the longest that a revoked key still works
    while the database can be heard. The promise is 1 s."""

    key_cache_max_stale_s: Annotated[float, Meta(ge=0, le=86_400)] = 300.0
    """How long a known credential is still taken while the database cannot be asked. A key that is revoked meanwhile,
    by a replica that can reach it, works here for as long. 0: authentication is closed then."""

    key_cache_max_entries: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    """Known credentials kept in memory, least recently used go first. About 0.7 KB each, so 70 MB at most."""

    key_lookup_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    """How long the database may take to say whose key it is, before the request is refused with 503."""

    address_requests_per_minute: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 600
    """Requests a minute from one address (IPv6: one /64) without a valid credential, signing in included: ten a second
    are more than a school behind one address needs, and too few to guess by. 0: any number."""

    replicas: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """How many replicas serve, where they share no Valkey (VALKEY_URL, with the cache plugin on): each has this part
    of every limit. With Valkey it counts only for a replica that has never reached it: with 1 such a replica lets in
    nobody who is limited."""


class AdminSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`ADMIN_KEY`, without a prefix: the app hands it out too. Never shown, not even by `repr`."""

    admin_key: Annotated[str, Meta(min_length=_MIN_ADMIN_KEY_CHARACTERS)]
    """The platform administrator's bearer token: at least 32 visible ASCII characters, as a header can carry them."""

    def __post_init__(self) -> None:
        if not (self.admin_key.isascii() and self.admin_key.isprintable() and " " not in self.admin_key):
            raise SettingsError("ADMIN_KEY=… cannot be used: only visible ASCII characters can be sent in a header")

    def __repr__(self) -> str:
        return "AdminSettings(admin_key=…)"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("admin_key", "…")]


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True):
    """An external OpenID Connect provider whose tokens are taken. Standard names, so without a prefix."""

    oidc_issuer: (
        Annotated[str, Meta(pattern=r"^https?://[^?#\s]+$", extra={"form": "https://login.example.org"})] | None
    ) = None
    """The provider's `iss`, whose keys are found below `/.well-known/openid-configuration`. Unset: no such tokens."""

    oidc_audience: Annotated[str, Meta(min_length=1)] | None = None
    """The `aud` that a token must have: what WattOS is called at the provider. Needed with OIDC_ISSUER."""

    oidc_tenant: Annotated[str, Meta(min_length=1, max_length=63)] = "default"
    """The slug of the tenant that the provider's users belong to, unless OIDC_TENANT_CLAIM says which."""

    oidc_tenant_claim: Annotated[str, Meta(min_length=1)] | None = None
    """The claim that holds the tenant's slug, where one provider serves several tenants. It must be one that users
    cannot set themselves."""

    def __post_init__(self) -> None:
        if self.oidc_issuer is not None and self.oidc_audience is None:
            raise SettingsError(
                "OIDC_AUDIENCE is not set, and OIDC_ISSUER needs it: the `aud` of tokens meant for WattOS"
            )


SETTINGS = (
    SettingsGroup("security", SecuritySettings, "PLUGINS_SECURITY_"),
    SettingsGroup("security", AdminSettings),
    SettingsGroup("security", OidcSettings),
)


def load(env: Mapping[str, str]) -> tuple[SecuritySettings, AdminSettings, OidcSettings]:
    """Raises: SettingsError."""
    if not env.get("ADMIN_KEY"):
        raise SettingsError(
            f"ADMIN_KEY is not set, and the security plugin needs it: at least {_MIN_ADMIN_KEY_CHARACTERS} "
            "characters, as from `openssl rand -hex 32`"
        )
    return (
        load_settings(SecuritySettings, env, prefix="PLUGINS_SECURITY_"),
        load_settings(AdminSettings, env),
        load_settings(OidcSettings, env),
    )
