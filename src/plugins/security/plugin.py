"""Wiring of the security plugin."""

# pyright: reportUnknownMemberType=false
# The lists of Litestar's AppConfig are generic without arguments.

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Self

from litestar import Litestar
from litestar.config.app import AppConfig
from msgspec.structs import replace

from plugins.contract.capabilities import Capabilities
from plugins.contract.plugin import GatewayPlugin
from plugins.contract.settings import SettingsGroup
from plugins.security.authenticator import Authenticator
from plugins.security.config import SETTINGS, AdminSettings, OidcSettings, SecuritySettings, load
from plugins.security.identities import Identities
from plugins.security.limits.entrance import Limits
from plugins.security.middleware import AuthenticationMiddleware, limits_anybody
from plugins.security.tokens import Tokens, verifier_of


class SecurityPlugin(GatewayPlugin):
    """Refuses every request without a valid credential, but to routes that are public, and what is over a limit."""

    name = "security"

    def __init__(
        self,
        settings: SecuritySettings,
        admin: AdminSettings,
        oidc: OidcSettings | None = None,
        *,
        is_sharing_expected: bool = False,
    ) -> None:
        """`is_sharing_expected`: VALKEY_URL is set."""
        self._settings = settings
        self._limits = Limits(settings, is_sharing_expected=is_sharing_expected)
        self._admin = admin
        self._oidc = oidc or OidcSettings()
        self.bind(Capabilities())

    @classmethod
    def settings(cls) -> tuple[SettingsGroup, ...]:
        return SETTINGS

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        return cls(*load(env), is_sharing_expected=bool(env.get("VALKEY_URL")))

    def contribute(self, capabilities: Capabilities) -> Capabilities:
        return replace(
            capabilities,
            anonymous=None,
            call_limits=self._limits,
            credentials_covered_for_s=self._settings.key_cache_max_stale_s,
        )

    def bind(self, capabilities: Capabilities) -> None:
        self._identities = Identities(capabilities.identity_lookup, capabilities.change_feed, self._settings)
        self._tokens = Tokens(
            capabilities.access_tokens,
            verifier_of(self._oidc),
            self._oidc.oidc_tenant if self._oidc.oidc_tenant_claim is None else None,
        )
        self._limits.bind(capabilities)
        decisions = capabilities.meter.counter("authentications_total", "Credentials checked, by result.", ("result",))
        self._authenticator = Authenticator(self._admin.admin_key, self._identities, self._tokens, decisions)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        @asynccontextmanager
        async def lifespan(app: Litestar) -> AsyncGenerator[None]:
            limiting = self._limits.serving() if limits_anybody(app) else nullcontext()
            async with self._identities.watching(), limiting:
                try:
                    yield
                finally:
                    await self._tokens.close()

        app_config.middleware.append(AuthenticationMiddleware(self._authenticator, self._limits.limiter))
        app_config.lifespan.append(lifespan)
        return app_config
