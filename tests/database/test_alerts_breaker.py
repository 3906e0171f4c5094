"""Warnings of budgets while receivers are dead: the one breaker of all of them takes nobody's warning away."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import aiohttp
import psycopg
import pytest

from app.billing.budgets.alerts import BREAKER, MAX_ATTEMPTS, AlertTeller
from app.database.engine import Database
from app.ids import new_id
from plugins.resilience.config import ResilienceSettings
from plugins.resilience.guard import ResilientGuard
from upstream import refused_url
from webhook_receiver import running_receiver

pytestmark = pytest.mark.requirement("RES-1")

SETTINGS = ResilienceSettings(circuit_breaker_failure_threshold=2)
START = datetime(2026, 11, 1, tzinfo=UTC)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def warn(connection: psycopg.Connection, url: str, *, attempts: int = 0) -> UUID:
    """A budget of a tenant of its own, half spent. Returns: the budget's id."""
    tenant_id, budget_id = new_id(), new_id()
    connection.execute("insert into tenants (id, name, slug) values (%s, 'x', %s)", (tenant_id, tenant_id.hex))
    connection.execute(
        "insert into budgets (tenant_id, id, scope, period, amount_nusd, allow_unpriced, webhook_url)"
        " values (%s, %s, 'tenant', 'month', 2, true, %s)",
        (tenant_id, budget_id, url),
    )
    connection.execute(
        "insert into budget_alerts (tenant_id, budget_id, period_start, percent, spent_nusd, amount_nusd, attempts,"
        " next_try_at) values (%s, %s, %s, 50, 1, 2, %s, now())",
        (tenant_id, budget_id, START, attempts),
    )
    return budget_id


async def test_dead_receivers_take_no_warning_from_others(database: Database, database_url: str) -> None:
    """What the open breaker refuses is put off, never given up, and sent by the probe, however often it was tried."""
    clock = Clock()
    guard = ResilientGuard(SETTINGS.breaker, SETTINGS.retry, clock=clock)
    with running_receiver() as receiver, psycopg.connect(database_url, autocommit=True) as connection:
        async with aiohttp.ClientSession() as session:
            teller = AlertTeller(database, b"key of the webhooks", lambda: session)
            teller.guard_with(guard)
            for _ in range(2):
                warn(connection, refused_url())
            await teller.tell()
            assert guard.states()[BREAKER] == "open"
            alive = warn(connection, receiver.url, attempts=MAX_ATTEMPTS)
            await teller.tell()
            assert receiver.taken == []
            (due,) = connection.execute(
                "select next_try_at - now() > '30 s' from budget_alerts where budget_id = %s", (alive,)
            )
            assert due == (True,)
            clock.now_s += SETTINGS.breaker.reset_timeout_s
            connection.execute("update budget_alerts set next_try_at = now() where budget_id = %s", (alive,))
            await teller.tell()
            assert len(receiver.taken) == 1
            assert guard.states()[BREAKER] == "closed"


async def test_a_receiver_that_answers_an_error_is_there(database: Database, database_url: str) -> None:
    """It is tried again, and says nothing about the way there."""
    guard = ResilientGuard(SETTINGS.breaker, SETTINGS.retry)
    with running_receiver() as receiver, psycopg.connect(database_url, autocommit=True) as connection:
        receiver.fail_next(5)
        async with aiohttp.ClientSession() as session:
            teller = AlertTeller(database, b"key of the webhooks", lambda: session)
            teller.guard_with(guard)
            for _ in range(5):
                warn(connection, receiver.url)
            await teller.tell()
    assert receiver.n_refused == 5
    assert guard.states() == {BREAKER: "closed"}
