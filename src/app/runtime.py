"""Everything with a lifetime, started in order and stopped in reverse: database, children, worker."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from app.billing.budgets.alerts import AlertTeller
from app.billing.budgets.reservations import Reservations
from app.billing.budgets.service import BudgetsService
from app.billing.instruments import CountedJournal
from app.billing.journal import Journal
from app.billing.ledger import Ledger
from app.billing.mover import Mover
from app.billing.retention import Retention
from app.data_directory import make_data_directory
from app.database.changes import ChangeListener
from app.database.embedded import embedded_postgres
from app.database.engine import Database
from app.database.errors import SchemaDrift
from app.database.migrate import is_current, upgrade
from app.idempotency.sealing import Secrets
from app.idempotency.service import IdempotencyService
from app.jobs.instruments import QueueDepth
from app.jobs.worker import Worker
from app.knowledge.files.objects import ObjectStore
from app.knowledge.files.service import FilesService
from app.knowledge.ingestion.parse_process import ParseLimits
from app.knowledge.ingestion.service import IngestionService
from app.knowledge.stores.model import INGEST
from app.knowledge.upkeep import Upkeep
from app.llm.transports.pool import PROXIES, Pool
from app.local_models.embedder import LocalEmbedder
from app.local_models.model_server import LocalModelServer
from app.local_models.timed import TimedEmbedder
from app.local_models.weights import weights_path
from app.own_secrets import access_token_secret, encryption_key, webhook_key
from app.prices.service import PricesService
from app.provider_keys.sealing import Seal
from app.provider_keys.service import ProviderKeysService
from app.settings import Settings
from plugins.contract.access_tokens import AccessTokens
from plugins.contract.capabilities import Capabilities

logger = logging.getLogger("runtime")

WORKER_GRACE_S = 5.0
"""A job that does not end by then is done again by the next worker: nothing is lost, so nothing is waited for."""


@contextlib.asynccontextmanager
async def database_url(settings: Settings, *, migrate: bool) -> AsyncGenerator[str]:
    """The URL of the database, embedded or given, with a current schema.

    Raises: SchemaDrift when it is not current and `migrate` is False.
    """
    async with contextlib.AsyncExitStack() as stack:
        url = settings.database_url
        if url is None:
            url = await stack.enter_async_context(embedded_postgres(settings.data_path))
        if not await is_current(url):
            if not migrate:
                raise SchemaDrift("the database is not at this release's schema: run `wattos db upgrade`")
            await upgrade(settings.database_migration_url or url)
        yield url


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Database]:
    """For commands: the database, opened as the app opens it."""
    database = Database(pool_size=1)
    async with database_url(settings, migrate=not settings.is_production) as url:
        await database.open(url)
        try:
            yield database
        finally:
            await database.close()


class Runtime:
    """The parts of one process. Made without I/O; alive inside `serving` or `working`."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        self.settings = settings
        self.database = Database()
        self.changes = ChangeListener()
        self.access_tokens = AccessTokens(access_token_secret(env, settings), ttl_s=settings.access_token_ttl_s)
        self.provider_keys = ProviderKeysService(
            self.database, self.changes, Seal.of(encryption_key(settings)), allowed_hosts=settings.outbound_hosts
        )
        self.prices = PricesService(self.database, self.changes)
        self.idempotency = IdempotencyService(
            self.database,
            Secrets(access_token_secret(env, settings)),
            wait_s=settings.idempotency_wait_s,
        )
        self.objects = ObjectStore(settings.data_path / "files")
        self.journal = Journal(settings.data_path / "journal")
        self.counted_journal = CountedJournal(self.journal.append, settings.data_path / "journal")
        self.ledger = Ledger(self.counted_journal.append)
        self.reservations = Reservations(
            self.database, self.changes, lambda: self.journal.folder.name, grace_s=settings.budget_lease_grace_s
        )
        self.embedder = LocalEmbedder(env=env)
        self.model_server = LocalModelServer(weights_path(settings.models_path), env=env)
        self.timed_embedder = TimedEmbedder(self.embedder)
        self.last_acts: list[Callable[[], Awaitable[None]]] = []
        """Awaited before anything is closed: what must not be lost."""
        self.pool = Pool(trust_env=any(env.get(name) for name in PROXIES), allowed_hosts=settings.outbound_hosts)
        self.alerts = AlertTeller(self.database, webhook_key(env), self.pool.guarded)
        self.mover = Mover(
            self.database, self.journal, settings.data_path / "journal", self.reservations, self.alerts.look
        )
        self.budgets = BudgetsService(
            self.database,
            grace_s=settings.budget_lease_grace_s,
            webhook_key=webhook_key(env),
            allowed_hosts=settings.outbound_hosts,
        )
        self.files = FilesService(self.database, self.objects, max_file_bytes=settings.max_file_bytes)
        limits = ParseLimits(timeout_s=settings.parse_timeout_s, memory_bytes=settings.parse_memory_bytes)
        self.ingestion = IngestionService(self.database, self.objects, self.timed_embedder, limits)
        self.worker = Worker({INGEST: self.ingestion.ingest})
        self.retention = Retention(
            self.database, calls_days=settings.usage_retention_days, sums_days=settings.usage_sums_retention_days
        )
        self.upkeep = Upkeep(
            [
                self.retention.keep,
                self.budgets.end_lapsed_leases,
                self.files.sweep,
                self.ingestion.find_lost,
                self.idempotency.forget_old,
            ]
        )

    def observe_with(self, capabilities: Capabilities) -> None:
        """Before it lives: the parts are made before the plugins have given."""
        self.database.observe_with(capabilities.meter, capabilities.slow_log)
        self.timed_embedder.observe_with(capabilities.slow_log)
        for guarded in (self.database, self.timed_embedder, self.alerts):
            guarded.guard_with(capabilities.guard)
        self.worker.observe_with(capabilities.slow_log)
        QueueDepth(self.database, capabilities.meter)
        refused = "Calls refused because a budget has not enough left, by whose it is."
        self.reservations.observe_with(capabilities.meter.counter("budget_refusals_total", refused, ("scope",)))
        told = "Warnings that so much of a budget is spent, and how its webhook went: sent, failed, given_up or none."
        self.alerts.observe_with(capabilities.meter.counter("budget_alerts_total", told, ("percent", "webhook")))
        self.counted_journal.observe_with(capabilities.meter)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """All of it: for `wattos serve`."""
        async with self._living(chat=True, worker=self.settings.worker_enabled):
            yield

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Database, embedder and worker: for `wattos worker`."""
        async with self._living(chat=False, worker=True):
            yield

    @contextlib.asynccontextmanager
    async def _living(self, *, chat: bool, worker: bool) -> AsyncGenerator[None]:
        make_data_directory(self.settings)
        async with contextlib.AsyncExitStack() as stack:
            migrate = not self.settings.is_production
            url = await stack.enter_async_context(database_url(self.settings, migrate=migrate))
            await self.database.open(url)
            stack.push_async_callback(self.database.close)
            if chat:
                self.journal.open()
                self.mover.start()
                stack.push_async_callback(self.mover.stop)
                self.reservations.start()
                stack.push_async_callback(self.reservations.stop)
                self.changes.start(url)
                stack.push_async_callback(self.changes.stop)
                stack.push_async_callback(self.provider_keys.close)
                stack.push_async_callback(self.prices.close)
            if self.settings.local_models_enabled:
                await self.embedder.start()
                stack.push_async_callback(self.embedder.stop)
                if chat:
                    await self.model_server.start()
                    stack.push_async_callback(self.model_server.stop)
            if worker:
                self.worker.start(url)
                stack.push_async_callback(self.worker.stop, WORKER_GRACE_S)
                self.upkeep.start()
                stack.push_async_callback(self.upkeep.stop)
            stack.push_async_callback(self.pool.close)
            if chat:
                self.alerts.start()
                stack.push_async_callback(self.alerts.stop)
            for act in self.last_acts:
                stack.push_async_callback(act)
            logger.info("ready")
            yield
