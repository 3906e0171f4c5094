"""MODELS_CONFIG read again while the server runs. A broken new file keeps the old one, and says why."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from app.errors import BrokenModelsConfig
from app.llm.catalog import Catalog, load_catalog
from app.llm.routing import Router
from app.llm.wires import Preference
from plugins.contract.errors import SettingsError

logger = logging.getLogger("llm")


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force now."""

    loaded_at: datetime
    aliases: tuple[str, ...]
    warnings: tuple[str, ...]


class Reloader:
    """For one file. Requests under way keep the targets that they began with."""

    def __init__(
        self,
        path: Path | None,
        env: Mapping[str, str],
        prefer: Preference,
        router: Router,
        on_loaded: Callable[[Catalog], None],
    ) -> None:
        """`env`: as it was at start; a process's environment does not change. `on_loaded`: before it is in force."""
        self._path = path
        self._env = env
        self._prefer: Preference = prefer
        self._router = router
        self._on_loaded = on_loaded
        self._turn = asyncio.Lock()

    async def reload(self) -> Loaded:
        """Raises: BrokenModelsConfig; then nothing has changed."""
        async with self._turn:
            try:
                catalog = await asyncio.to_thread(self._load)
            except SettingsError as exc:
                logger.error("MODELS_CONFIG was not loaded again, the old one stays: %s", exc.message)  # noqa: TRY400
                raise BrokenModelsConfig(exc.message) from None
            self._on_loaded(catalog)
            self._router.replace(catalog)
            logger.info("MODELS_CONFIG was loaded again: %d aliases", len(catalog.aliases()))
            return Loaded(loaded_at=datetime.now(UTC), aliases=catalog.aliases(), warnings=catalog.warnings)

    def _load(self) -> Catalog:
        return load_catalog(self._path, self._env, self._prefer)

    @contextlib.asynccontextmanager
    async def on_sighup(self) -> AsyncGenerator[None]:
        """While open, SIGHUP means `reload`. Only the main thread of a process can hear signals."""
        loop, running = asyncio.get_running_loop(), set[asyncio.Task[None]]()

        async def reload() -> None:
            with contextlib.suppress(BrokenModelsConfig):  # it is in the log
                await self.reload()

        def heard() -> None:
            task = loop.create_task(reload(), name="reload-models-config")
            running.add(task)
            task.add_done_callback(running.discard)

        try:
            loop.add_signal_handler(signal.SIGHUP, heard)
        except (ValueError, RuntimeError):  # not the main thread, as in tests and under other servers
            yield
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            await asyncio.gather(*running, return_exceptions=True)
