"""More model calls than this process can do are refused before anything is begun, batch before interactive.

In front of every POST that needs `models:use`. Who is let in holds a place until the last byte of the answer, streams
too. All else (health, metrics, lists, uploads, administration) is never refused.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from litestar.enums import ScopeType
from litestar.exceptions import HTTPException

from plugins.contract.errors import DeadlinePassed, Overloaded
from plugins.contract.nulls import NullMeter
from plugins.contract.permissions import PERMISSION
from plugins.contract.requests import CLIENT_CLOSED_REQUEST, DEADLINE_S, DEPARTURE, TIMEOUT_HEADER, read_timeout_ms
from plugins.resilience.bulkhead import COME_AGAIN_S, Bulkhead, CallerLeft, Departure, Priority
from plugins.resilience.lag import LoopLag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

    from plugins.contract.ports import Meter
    from plugins.resilience.config import ProtectionSettings

HEADER: Final = b"x-wattos-priority"
"""`interactive` or `batch`; anything else is interactive: a typing error makes no call wait longer."""

INTERACTIVE_LAG_FACTOR: Final = 4
"""Interactive calls are refused when the loop is that many times later than what batch calls are refused for: most of
what can be shed is gone by then, and it did not help."""


class Shedding:
    """Built with the plugin; `around` mounts it."""

    def __init__(self, settings: ProtectionSettings, lag: LoopLag) -> None:
        self._lag = lag
        max_lag_s = settings.max_loop_lag_ms / 1000 or float("inf")
        self._max_lag_s: dict[Priority, float] = {
            "interactive": max_lag_s * INTERACTIVE_LAG_FACTOR,
            "batch": max_lag_s,
        }
        self.places = Bulkhead(
            "this server",
            max_concurrency=settings.max_concurrent_requests,
            max_queued=settings.max_queued_requests,
            max_wait_s=settings.max_queue_wait_ms / 1000,
        )
        self.observe_with(NullMeter())

    def observe_with(self, meter: Meter) -> None:
        self._shed = meter.counter(
            "requests_shed_total",
            "Model calls that were refused because all places were taken (places) or the event loop was late (lag), or"
            " that gave up waiting for a place at their own deadline (deadline), by priority: interactive or batch.",
            ("reason", "priority"),
        )
        under_way = meter.gauge(
            "model_requests", "Model calls in this process that run (running) or wait for a place (queued).", ("state",)
        )

        async def sample() -> None:
            under_way.set(self.places.n_running, "running")
            under_way.set(self.places.n_queued, "queued")

        meter.sample(sample)

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app`, whose model calls need a place. Others go straight through: nothing is awaited here."""

        def handler(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            if (
                scope["type"] == ScopeType.HTTP
                and scope["method"] == "POST"
                and scope["route_handler"].opt.get(PERMISSION) == "models:use"
            ):
                return self._handle(app, scope, receive, send)
            return app(scope, receive, send)

        return cast("ASGIApp", handler)

    async def _handle(self, app: ASGIApp, scope: HTTPScope, receive: Receive, send: Send) -> None:
        priority = _priority(scope)
        if self._lag.lasting_s > self._max_lag_s[priority]:
            self._shed.add(1, "lag", priority)
            raise Overloaded("this server has more to do than it can", retry_after_s=COME_AGAIN_S[priority])
        if not self.places.try_take():
            try:
                departure = cast("Mapping[str, Departure | None]", scope).get(DEPARTURE)
                await self.places.wait(priority, deadline_s=_deadline_of(scope), departure=departure)
            except Overloaded:
                self._shed.add(1, "places", priority)
                raise
            except DeadlinePassed:
                self._shed.add(1, "deadline", priority)
                raise
            except CallerLeft:
                raise HTTPException("the client left", status_code=CLIENT_CLOSED_REQUEST) from None
        try:
            await app(scope, receive, send)
        finally:
            self.places.give_back()


def _priority(scope: HTTPScope) -> Priority:
    for name, value in scope["headers"]:
        if name == HEADER:
            return "batch" if value.strip().lower() == b"batch" else "interactive"
    return "interactive"


def _deadline_of(scope: HTTPScope) -> float | None:
    """What the caller said, from now on; what cannot be read is the app's to refuse."""
    for name, value in scope["headers"]:
        if name == TIMEOUT_HEADER and (timeout_ms := read_timeout_ms(value)) is not None:
            # The caller's patience began before it waited here: the app finds it there.
            deadline_s = asyncio.get_running_loop().time() + timeout_ms / 1000
            scope["state"][DEADLINE_S] = deadline_s
            return deadline_s
    return None
