"""The composition root: the one place where everything is made and handed to what needs it. Values in, an app out."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from app.accounts.key_lookup import DatabaseKeyLookup
from app.accounts.routes import router as accounts_router
from app.accounts.service import AccountsService
from app.admin_key import ensure_admin_key
from app.chat.extractive import ExtractiveTransport
from app.chat.routes import create_chat_completion
from app.chat.service import ChatService
from app.embeddings.routes import create_embedding
from app.embeddings.service import EmbeddingService
from app.environment import check_environment
from app.http.context import dependencies
from app.http.errors import exception_handlers
from app.knowledge.answering.extractive import ExtractiveAnswerer
from app.knowledge.files.routes import files_router
from app.knowledge.files.service import FilesService
from app.knowledge.retrieval.service import VectorRetriever
from app.knowledge.stores.routes import router as stores_router
from app.knowledge.stores.service import VectorStoresService
from app.llm.catalog import Catalog, load_catalog
from app.llm.chain import Chain
from app.llm.transports.bridge import BridgeTransport
from app.llm.transports.embedder import EmbedderTransport
from app.local_models.embedder import unavailable
from app.local_models.model_server import LocalModelServer
from app.local_models.supervisor import Phase
from app.models.routes import list_models, retrieve_model
from app.operations.health.model import Check
from app.operations.health.routes import get_health, get_liveness, get_readiness
from app.operations.health.service import HealthService
from app.operations.plugins.routes import list_plugins
from app.runtime import Runtime
from app.settings import Settings, read_settings
from plugins.contract.capabilities import Capabilities
from plugins.contract.discovery import discover
from plugins.contract.errors import WattosError
from plugins.contract.redaction import is_secret_name, secrets_of

logger = logging.getLogger("app")

STARTUP_FAILURE = "startup_failure"
"""Key in the app's state where the reason stands when the app could not start."""


def build_app(env: Mapping[str, str]) -> Litestar:
    """The production app, for any environment. Reads MODELS_CONFIG; connects to nothing before its lifespan.

    Raises: SettingsError.
    """
    settings = read_settings(env)
    env = {**env, "ADMIN_KEY": ensure_admin_key(env, settings).value}
    discovered = discover(env)
    warnings = check_environment(env, settings, discovered)
    runtime = Runtime(settings, env)
    plugins = [plugin.from_env(env) for plugin in discovered.enabled]
    capabilities = Capabilities(key_lookup=DatabaseKeyLookup(runtime.database))
    for plugin in plugins:
        capabilities = plugin.contribute(capabilities)
    for plugin in plugins:
        plugin.bind(capabilities)
    _begin_logs(capabilities, env, warnings)
    runtime.observe_with(capabilities)
    return Litestar(
        route_handlers=[
            create_chat_completion,
            create_embedding,
            list_models,
            retrieve_model,
            files_router(max_file_bytes=settings.max_file_bytes),
            stores_router,
            accounts_router,
            get_liveness,
            get_readiness,
            get_health,
            list_plugins,
        ],
        dependencies={
            **dependencies(capabilities.anonymous),
            **_services(settings, env, runtime, capabilities),
            "plugin_states": _given(discovered.states),
        },
        plugins=plugins,
        logging_config=None,  # Litestar's default would bring lines of its own
        exception_handlers=exception_handlers,
        lifespan=[_lifespan(runtime)],
        request_max_body_size=settings.max_body_bytes,
        openapi_config=OpenAPIConfig(
            title="WattOS",
            version=version("wattos"),
            openapi_router=Router("/schema", route_handlers=[], opt={"public": True}),
            render_plugins=[JsonRenderPlugin()],
        ),
    )


def worker_capabilities(env: Mapping[str, str]) -> Capabilities:
    """What `wattos worker` has of the plugins: logs, and the log of slow operations. It serves nobody, so the others
    have nothing to do there. Raises: SettingsError."""
    settings = read_settings(env)
    discovered = discover(env)
    warnings = check_environment(env, settings, discovered)
    capabilities = Capabilities()
    for plugin in discovered.enabled:
        if plugin.name == "observability":
            capabilities = plugin.from_env(env).contribute(capabilities)
    _begin_logs(capabilities, env, warnings)
    return capabilities


def _begin_logs(capabilities: Capabilities, env: Mapping[str, str], warnings: Iterable[str]) -> None:
    capabilities.logs.install()
    capabilities.logs.conceal(secrets_of(env))
    for warning in warnings:
        logger.warning(warning)


def _services(
    settings: Settings, env: Mapping[str, str], runtime: Runtime, capabilities: Capabilities
) -> dict[str, Provide]:
    """What route handlers may ask for, by name."""
    catalog = load_catalog(Path(settings.models_config) if settings.models_config else None, env)
    capabilities.logs.conceal(_keys_of(catalog))
    for warning in catalog.warnings:
        logger.warning("MODELS_CONFIG: %s", warning)
    # A person waits for the answer: its statements go before documents that are being ingested.
    answerer = ExtractiveAnswerer(functools.partial(runtime.timed_embedder.embed, urgent=True))
    retriever = VectorRetriever(runtime.database, runtime.timed_embedder)
    bridge = BridgeTransport(LocalAddress(runtime.model_server))
    chain = Chain(
        chat={"bridge": bridge, "extractive": ExtractiveTransport(answerer)},
        embedding={"bridge": bridge, "embedder": EmbedderTransport(runtime.embedder)},
        guard=capabilities.guard,
        meter=capabilities.meter,
        slow_log=capabilities.slow_log,
    )
    chat = ChatService(
        catalog=catalog,
        chain=chain,
        cache=capabilities.cache,
        cache_state=capabilities.cache_state,
        retriever=retriever,
        answerer=answerer,
    )
    return {
        "catalog": _given(catalog),
        "chat": _given(chat),
        "embeddings": _given(EmbeddingService(catalog=catalog, chain=chain)),
        "retriever": _given(retriever),
        "files": _given(FilesService(runtime.database, runtime.objects, max_file_bytes=settings.max_file_bytes)),
        "stores": _given(VectorStoresService(runtime.database, embedding_model=runtime.embedder.model)),
        "accounts": _given(AccountsService(runtime.database)),
        "health": _given(HealthService(_checks(runtime), version("wattos"))),
    }


def _keys_of(catalog: Catalog) -> Iterator[str]:
    """What a configuration holds that no log may show."""
    for alias in catalog.aliases():
        for target in catalog.chain(alias):
            yield from (str(value) for name, value in target.params.items() if is_secret_name(name))


class LocalAddress:
    """The `LocalEndpoint` port on the model server."""

    def __init__(self, server: LocalModelServer) -> None:
        self._server = server

    def address(self) -> tuple[str, str]:
        endpoint = self._server.endpoint()
        return endpoint.base_url, endpoint.api_key


def _checks(runtime: Runtime) -> list[Check]:
    """Critical is what no request can do without."""

    async def model_server() -> None:
        runtime.model_server.endpoint()

    async def embedder() -> None:
        state = runtime.embedder.state
        if state.phase is not Phase.READY:
            raise unavailable(state)

    checks = [Check(name="postgres", critical=True, probe=runtime.database.ping)]
    if runtime.settings.local_models_enabled:
        checks.append(Check(name="local model", critical=False, probe=model_server))
        checks.append(Check(name="embedder", critical=False, probe=embedder))
    return checks


def _lifespan(runtime: Runtime) -> Callable[[Litestar], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(runtime.serving())
            except WattosError as exc:
                app.state[STARTUP_FAILURE] = exc
                raise
            yield

    return lifespan


def _given(value: Any) -> Provide:
    """A dependency that is always the same object."""

    def provide() -> Any:
        return value

    return Provide(provide, sync_to_thread=False)
