"""How late the event loop is, as a reason to refuse: whoever is let in waits for it, and so does all that runs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

EVERY_S: Final = 0.1
"""A loop that is too late is noticed within `N_SAMPLES` of these. Ten wake-ups a second cost 0.02 % of a core."""

N_SAMPLES: Final = 3
"""One late sample is one long computation, and over when it is seen; three in a row are more than can be done."""


class LoopLag:
    """Seconds that a timer of the event loop fires late."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._last_s = deque([0.0] * N_SAMPLES, maxlen=N_SAMPLES)
        self.lasting_s = 0.0
        """The least of the last samples: so late it was at least, for some time."""

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            due_s = self._clock() + EVERY_S
            await self._sleep(EVERY_S)
            self._last_s.append(max(0.0, self._clock() - due_s))
            self.lasting_s = min(self._last_s)
