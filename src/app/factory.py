"""The composition root: the one place where everything is made and handed to what needs it. Values in, an app out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.di import Provide

from app.accounts.identities import DatabaseIdentityLookup
from app.accounts.routes import router as accounts_router
from app.accounts.sign_in.routes import router as sign_in_router
from app.accounts.users.routes import router as users_router
from app.audit.context import provided_actor
from app.billing.budgets.routes import router as budgets_router
from app.billing.calls.routes import export_usage
from app.billing.routes import list_usage, summarize_usage
from app.chat.routes import create_chat_completion
from app.checks import checks_of_server, checks_of_worker
from app.completions.routes import create_completion
from app.embeddings.routes import create_embedding
from app.environment import read_environment
from app.http.context import dependencies
from app.http.dependencies import one_after_another
from app.http.docs.routes import docs_router
from app.http.errors import exception_handlers
from app.http.methods import with_methods
from app.http.request import request_class
from app.idempotency.middleware import IdempotencyMiddleware
from app.knowledge.files.routes import files_router
from app.knowledge.stores.routes import router as stores_router
from app.limits.routes import router as limits_router
from app.limits.service import LimitsService
from app.llm.catalog import Catalog, load_catalog
from app.llm.outcomes import LastOutcomes
from app.llm.reload import Reloader
from app.llm.routing import Router
from app.messages.routes import count_message_tokens, create_message
from app.models.routes import list_models, reload_models, retrieve_model
from app.moderations.routes import create_moderation
from app.operations.audit.routes import list_audit_events
from app.operations.health.routes import get_health, get_liveness, get_readiness
from app.operations.health.service import HealthService
from app.operations.listener import EachOnItsListener, by_operator
from app.operations.plugins.routes import list_plugins
from app.operations.providers.routes import router as providers_router
from app.own_secrets import ensure_admin_key
from app.prices.routes import router as prices_router
from app.provider_keys.routes import router as provider_keys_router
from app.runtime import Runtime
from app.services import services
from app.settings import Settings
from plugins.contract.capabilities import Capabilities
from plugins.contract.discovery import PluginState
from plugins.contract.errors import WattosError
from plugins.contract.health import HealthCheck
from plugins.contract.plugin import GatewayPlugin
from plugins.contract.redaction import is_secret_name, secrets_of

logger = logging.getLogger("app")

STARTUP_FAILURE = "startup_failure"
"""Key in the app's state where the reason stands when the app could not start."""

HEALTH = "health"
"""Key in the app's state where its `HealthService` stands."""

OPERATIONS_ROUTES = (get_liveness, get_readiness, get_health, list_plugins)


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What every process is made of, whatever it serves."""

    settings: Settings
    env: Mapping[str, str]
    runtime: Runtime
    plugins: list[GatewayPlugin]
    plugin_states: tuple[PluginState, ...]
    capabilities: Capabilities


def build_app(env: Mapping[str, str]) -> Litestar:
    """The production app, for any environment. Reads MODELS_CONFIG; connects to nothing before its lifespan.

    Raises: SettingsError.
    """
    parts = _assemble(env)
    settings, runtime, capabilities = parts.settings, parts.runtime, parts.capabilities
    models_config = Path(settings.models_config) if settings.models_config else None
    catalog = load_catalog(models_config, parts.env, settings.llm_transport)

    def on_loaded(loaded: Catalog) -> None:
        capabilities.logs.conceal(value for name, value in loaded.secrets() if is_secret_name(name))
        for warning in loaded.warnings:
            logger.warning("MODELS_CONFIG: %s", warning)

    on_loaded(catalog)
    router, outcomes = Router(catalog), LastOutcomes()
    reloader = Reloader(models_config, parts.env, settings.llm_transport, router, on_loaded)
    health = _health(parts, checks_of_server(runtime, catalog, capabilities, outcomes))
    app = Litestar(
        route_handlers=[
            create_chat_completion,
            create_completion,
            create_moderation,
            create_message,
            count_message_tokens,
            create_embedding,
            list_models,
            retrieve_model,
            reload_models,
            files_router(max_file_bytes=settings.max_file_bytes),
            stores_router,
            accounts_router,
            users_router,
            sign_in_router,
            provider_keys_router,
            limits_router,
            prices_router,
            list_audit_events,
            providers_router,
            budgets_router,
            list_usage,
            summarize_usage,
            export_usage,
            *OPERATIONS_ROUTES,
            docs_router(title="WattOS", version=version("wattos")),
        ],
        dependencies={
            **dependencies(capabilities.anonymous),
            "actor": provided_actor(capabilities.anonymous),
            **_given({**services(router, runtime, capabilities, outcomes), "reloader": reloader}),
            **_operations(parts, health),
        },
        middleware=[EachOnItsListener(settings.management_port)] if settings.management_port else None,
        plugins=[*parts.plugins, IdempotencyMiddleware(runtime.idempotency, capabilities.anonymous)],
        cors_config=CORSConfig(allow_origins=settings.cors_origins, allow_credentials=False)
        if settings.cors_origins
        else None,
        logging_config=None,  # Litestar's default would bring lines of its own
        exception_handlers=exception_handlers,
        request_class=request_class(body_timeout_s=settings.request_body_timeout_s),
        lifespan=[_lifespan(runtime.serving, health), lambda _: reloader.on_sighup()],
        request_max_body_size=settings.max_body_bytes,
        openapi_config=None,  # `docs_router` has it
    )
    return with_methods(one_after_another(app))


def build_worker_app(env: Mapping[str, str]) -> Litestar:
    """A process that works on jobs: while its lifespan is open. What it serves is its own health and metrics.

    Raises: SettingsError.
    """
    parts = _assemble(env)
    health = _health(parts, checks_of_worker(parts.runtime))
    app = Litestar(
        route_handlers=[*OPERATIONS_ROUTES],
        dependencies=_operations(parts, health),
        plugins=parts.plugins,
        logging_config=None,
        exception_handlers=exception_handlers,
        lifespan=[_lifespan(parts.runtime.working, health)],
        openapi_config=None,
    )
    return with_methods(app)


def _assemble(env: Mapping[str, str]) -> Parts:
    checked = read_environment(env)
    settings, discovered = checked.settings, checked.discovered
    env = {**env, "ADMIN_KEY": ensure_admin_key(env, settings).value}
    runtime = Runtime(settings, env)
    plugins = [plugin.from_env(env) for plugin in discovered.enabled]
    capabilities = Capabilities(
        identity_lookup=DatabaseIdentityLookup(runtime.database),
        change_feed=runtime.changes,
        access_tokens=runtime.access_tokens,
        limit_lookup=LimitsService(runtime.database),
    )
    for plugin in plugins:
        capabilities = plugin.contribute(capabilities)
    for plugin in plugins:
        plugin.bind(capabilities)
    capabilities.logs.install()
    capabilities.logs.conceal(secrets_of(env))
    for warning in checked.warnings:
        logger.warning(warning)
    runtime.observe_with(capabilities)
    return Parts(
        settings=settings,
        env=env,
        runtime=runtime,
        plugins=plugins,
        plugin_states=discovered.states,
        capabilities=capabilities,
    )


def _health(parts: Parts, checks: tuple[HealthCheck, ...]) -> HealthService:
    return HealthService(
        (*checks, *parts.capabilities.health_checks),
        version=version("wattos"),
        meter=parts.capabilities.meter,
        interval_s=parts.settings.health_check_interval_s,
        timeout_s=parts.settings.health_check_timeout_s,
        guard=parts.capabilities.guard,
    )


def _operations(parts: Parts, health: HealthService) -> dict[str, Provide]:
    """What the routes of operations may name."""
    given = _given({"health": health, "plugin_states": parts.plugin_states})
    return {**given, "by_operator": by_operator(parts.settings.management_port, parts.capabilities.anonymous)}


def _lifespan(
    living: Callable[[], contextlib.AbstractAsyncContextManager[None]], health: HealthService
) -> Callable[[Litestar], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        app.state[HEALTH] = health
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(living())
            except WattosError as exc:
                app.state[STARTUP_FAILURE] = exc
                raise
            await stack.enter_async_context(health.watching())
            yield

    return lifespan


def _given(values: Mapping[str, Any]) -> dict[str, Provide]:
    """Dependencies that are always the same objects."""

    def always(value: Any) -> Provide:
        def provide() -> Any:
            return value

        return Provide(provide, sync_to_thread=False)

    return {name: always(value) for name, value in values.items()}
