"""The composition root: the one place where everything is made and handed to what needs it. Values in, an app out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.types import ControllerRouterHandler

from app.accounts.key_lookup import DatabaseKeyLookup
from app.accounts.routes import route_handlers as accounts_routes
from app.accounts.service import AccountsService
from app.admin_key import ensure_admin_key
from app.chat.extractive import ExtractiveTransport
from app.chat.routes import create_chat_completion
from app.chat.service import ChatService
from app.http.context import dependencies
from app.http.errors import exception_handlers
from app.operations.health.routes import get_health, get_liveness, get_readiness
from app.operations.plugins.routes import list_plugins
from app.runtime import Runtime
from app.settings import Settings, read_settings
from plugins.contract.capabilities import Capabilities
from plugins.contract.discovery import Discovered, discover
from plugins.contract.errors import SettingsError
from plugins.contract.plugin import GatewayPlugin


def build_app(env: Mapping[str, str]) -> Litestar:
    """The production app, for any environment. No I/O but reading MODELS_CONFIG: connections are made in the lifespan.

    Raises: SettingsError.
    """
    settings = read_settings(env)
    env = {**env, "ADMIN_KEY": ensure_admin_key(env, settings).value}
