"""How many calls a target has at once: a place for each, and a short wait for one where no other target is left.

A place is handed to who has waited longest, so that nobody who comes later is before them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from app.llm.model import Target

PATIENCE_S = 0.5
"""How long a call waits for a place: nobody minds half a second, and who waits longer is better told to come again."""


class Place:
    """Of one call, until it is over. Released once."""

    __slots__ = ("_name", "_places")

    def __init__(self, places: Places | None, name: str) -> None:
        self._places = places
        self._name = name

    def release(self) -> None:
        places, self._places = self._places, None
        if places is not None:
            places.free(self._name)


NO_PLACE = Place(None, "")
"""Where there is no bound."""


class _Waiter:
    __slots__ = ("found", "targets")

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = {target.known_as: target for target in targets}
        self.found: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class Places:
    """Of all targets, in one process. Those of a tenant's own key have no bound here: it is the tenant's account."""

    def __init__(self, max_calls: int = 0) -> None:
        """`max_calls`: of targets that do not say it; 0: any number."""
        self._max_calls = max_calls
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, deque[_Waiter]] = {}

    def take(self, target: Target) -> Place | None:
        """At once; None: all are taken."""
        bound = self._bound(target)
        if not bound:
            return NO_PLACE
        name = target.known_as
        n_taken = self._taken.get(name, 0)
        if n_taken >= bound:
            return None
        self._taken[name] = n_taken + 1
        return Place(self, name)

    async def wait(self, targets: Sequence[Target], patience_s: float = PATIENCE_S) -> tuple[Target, Place] | None:
        """The first that becomes free at one of them; None: none did."""
        waiter = _Waiter(targets)
        for name in waiter.targets:
            self._waiting.setdefault(name, deque()).append(waiter)
        try:
            await asyncio.wait({waiter.found}, timeout=patience_s)
        except BaseException:
            if waiter.found.done():  # it was given and is not wanted any more
                self.free(waiter.found.result())
            raise
        finally:
            self._leave(waiter)
        if not waiter.found.done():
            return None
        name = waiter.found.result()
        return waiter.targets[name], Place(self, name)

    def free(self, name: str) -> None:
        """One place less is taken, unless somebody waits for it."""
        n_left = self._taken[name] - 1
        for waiter in self._waiting.get(name, ()):
            if not waiter.found.done() and n_left < self._bound(waiter.targets[name]):
                waiter.found.set_result(name)
                return
        if n_left:
            self._taken[name] = n_left
        else:
            del self._taken[name]

    def _bound(self, target: Target) -> int:
        if target.own_key_id:
            return 0
        return self._max_calls if target.max_calls is None else target.max_calls

    def _leave(self, waiter: _Waiter) -> None:
        for name in waiter.targets:
            queue = self._waiting[name]
            queue.remove(waiter)
            if not queue:
                del self._waiting[name]
