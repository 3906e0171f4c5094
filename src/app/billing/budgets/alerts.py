"""Tells that 50, 80 and 100 % of a budget are spent: by log and metric, and by webhook where the budget names one.

A threshold is reached in the transaction that enters the calls, so it is never missed and never told twice over; one
replica takes each alert, and a webhook that does not answer is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

import aiohttp
import msgspec

from app.billing.budgets import store
from app.billing.budgets.model import Alert
from app.billing.budgets.signing import secret_of, signed_headers
from app.database.engine import Database, Role
from app.ids import encode_id
from plugins.contract.errors import CircuitOpen, RetryableError
from plugins.contract.nulls import NullGuard, NullInstrument
from plugins.contract.ports import Counter, Guard

logger = logging.getLogger("billing")

LOOK_EVERY_S = 60.0
"""For those of a process that died before it told them; what was charged here is looked for at once."""

BREAKER = "webhook"
"""In the guard, one for all receivers, as its names are a bounded set: it is there for networks that let nothing out.
So that one tenant's dead receivers cost no other tenant an alert, what it refuses is never given up."""

BATCH = 20
TIMEOUT_S = 10.0
"""What receivers are usually given."""

MAX_ATTEMPTS = 12
FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 3600.0
"""5 s, 10 s, 20 s … an hour: twelve attempts are four hours."""

SLACK_S = 0.5
"""The database counts from when it was told."""

TAKEN_FOR_S = 2 * TIMEOUT_S * BATCH
"""A batch is told one after the other; should its process die, another takes it up then."""


class AlertTeller:
    """Runs between `start` and `stop`."""

    def __init__(self, database: Database, webhook_key: bytes, session: Callable[[], aiohttp.ClientSession]) -> None:
        """`session`: connects to addresses that a tenant may choose, and to no others."""
        self._database = database
        self._webhook_key = webhook_key
        self._session = session
        self._told: Counter = NullInstrument()
        self._guard: Guard = NullGuard()
        self._charged = asyncio.Event()
        self._again_at_s = float("inf")
        """When the next of those that did not arrive is due."""
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Budgets were charged: some may have reached a threshold."""
        self._charged.set()

    def observe_with(self, told: Counter) -> None:
        """`told` has two labels: percent, and how the webhook went: `sent`, `failed`, `given_up`, `none`."""
        self._told = told

    def guard_with(self, guard: Guard) -> None:
        self._guard = guard

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="budget-alerts")

    async def stop(self) -> None:
        """What is being sent is sent again by whoever looks next: receivers know it by its id."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._charged.clear()
            try:
                await self.tell()
            except RetryableError:
                pass  # the database is away, which others log
            except Exception:  # a bug must not end warnings for ever
                logger.exception("alerts of budgets cannot be told")
            pause_s = min(LOOK_EVERY_S, self._again_at_s - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._charged.wait(), pause_s)

    async def tell(self) -> None:
        """All that are due. Raises: RetryableError."""
        if time.monotonic() >= self._again_at_s:
            self._again_at_s = float("inf")
        while True:
            async with self._database.role(Role.LEDGER) as session:
                due = await store.due_alerts(session, BATCH, TAKEN_FOR_S)
            if not due:
                return
            for alert in due:
                again_s = await self._tell_one(alert)
                if again_s is not None:
                    self._again_at_s = min(self._again_at_s, time.monotonic() + again_s + SLACK_S)
                async with self._database.role(Role.LEDGER) as session:
                    await store.put_off(session, alert, again_s)

    async def _tell_one(self, alert: Alert) -> float | None:
        """Returns: when to try again."""
        if alert.attempts == 1:
            logger.warning(
                "%d %% of the budget %s of tenant %s are spent: %d of %d nano-dollars",
                alert.percent,
                encode_id("bud", alert.budget_id),
                encode_id("ten", alert.tenant_id),
                alert.spent_nusd,
                alert.amount_nusd,
            )
        percent = str(alert.percent)
        if alert.webhook_url is None:
            self._told.add(1, percent, "none")
            return None
        try:
            is_sent = await self._sent(alert, alert.webhook_url)
        except CircuitOpen as exc:
            return exc.retry_after_s or FIRST_PAUSE_S
        if is_sent:
            self._told.add(1, percent, "sent")
            return None
        if alert.attempts >= MAX_ATTEMPTS:
            self._told.add(1, percent, "given_up")
            logger.warning("the webhook of the budget %s is given up", encode_id("bud", alert.budget_id))
            return None
        self._told.add(1, percent, "failed")
        return float(min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** (alert.attempts - 1)))

    async def _sent(self, alert: Alert, url: str) -> bool:
        """Raises: CircuitOpen. Tried again in minutes and hours by whichever process is there, so not here and now."""
        try:
            return await self._guard.call(BREAKER, lambda: self._post(alert, url), retry=False)
        except CircuitOpen:
            raise
        except RetryableError:
            return False

    async def _post(self, alert: Alert, url: str) -> bool:
        """Raises: RetryableError when no answer came, whatever it would have been."""
        body = msgspec.json.encode(_event(alert))
        # The same for every attempt: receivers take it once.
        message_id = f"{encode_id('bud', alert.budget_id)}_{alert.period_start:%Y%m%d}_{alert.percent}"
        message_id += f"_{alert.created_at.timestamp():.0f}"
        headers = signed_headers(secret_of(self._webhook_key, alert.budget_id), message_id, int(time.time()), body)
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._session().post(
                    url, data=body, headers={**headers, "content-type": "application/json"}, allow_redirects=False
                ) as answer,
            ):
                return 200 <= answer.status < 300  # "2xx"
        except ValueError:  # an address that is none, or that is not allowed
            return False
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise RetryableError("the receiver did not answer") from None


def _event(alert: Alert) -> dict[str, object]:
    return {
        "type": "budget.threshold_reached",
        "timestamp": datetime.now(UTC),
        "data": {
            "budget_id": encode_id("bud", alert.budget_id),
            "tenant_id": encode_id("ten", alert.tenant_id),
            "scope": alert.scope,
            "period": alert.period,
            "period_start": alert.period_start,
            "percent": alert.percent,
            "spent_nusd": alert.spent_nusd,
            "amount_nusd": alert.amount_nusd,
        },
    }
