"""What is looked after from time to time: bytes that no file has, files whose job was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from plugins.contract.errors import RetryableError

logger = logging.getLogger("upkeep")

Chore = Callable[[], Awaitable[None]]
"""Does what is due, and can be done by several processes at once. Raises: RetryableError to be left until next time."""

EVERY_S = 600.0
"""Each costs one statement when nothing is due; and nothing here was promised sooner."""


class Upkeep:
    """Does its chores at start and then every ten minutes, one after the other."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        self._chores = chores
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="upkeep")

    async def stop(self) -> None:
        """A chore that is cut off is done again by the next process."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            for chore in self._chores:
                try:
                    await chore()
                except RetryableError as exc:
                    logger.warning("upkeep waits for its next turn: %s", exc.code)
                except Exception:  # a bug in one chore must not end the others for ever
                    logger.exception("upkeep failed")
            await asyncio.sleep(EVERY_S)
