"""Budgets under random histories of several processes on the real database: reserve, settle, enter, crash, replay.

The invariant: of a period no more is spent than its amount, but for what calls cost beyond what they had reserved.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.budgets import store
from app.billing.budgets.lender import IDLE_S
from app.database.engine import Database, Role
from budget_world import AMOUNT, World, make_world
from postgres import Cluster


@pytest.fixture(scope="module")
def histories_url(cluster: Cluster) -> str:
    return asyncio.run(cluster.create_database())


PROCESS = st.integers(0, 2)
MONEY = st.integers(0, 400)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), PROCESS, MONEY),
        st.tuples(st.just("call"), PROCESS, MONEY),
        st.tuples(st.just("reserve"), PROCESS, MONEY),
        st.tuples(st.just("settle"), PROCESS, MONEY),
        st.tuples(st.just("move"), PROCESS, st.integers(0, 1)),
        st.tuples(st.just("renew"), PROCESS, st.just(0)),
        st.tuples(st.just("wait"), PROCESS, st.integers(1, 2 * int(IDLE_S))),
        st.tuples(st.just("crash"), PROCESS, st.just(0)),
    ),
    min_size=10,
    max_size=60,
)


@given(steps=STEPS, is_bounded=st.booleans())
@settings(
    deadline=None,
    max_examples=40,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a shorter example takes minutes to find
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_history_spends_more_than_the_amount(
    histories_url: str, steps: list[tuple[str, int, int]], is_bounded: bool
) -> None:
    """Where estimates are upper bounds, by nothing; else by what calls cost beyond them. And nothing stays behind."""

    async def live() -> None:
        database = Database(pool_size=2)
        await database.open(histories_url)
        try:
            world = await make_world(database)
            for step, number, value in steps:
                await _do(world, step, number, value, is_bounded)
                spent, lent = await world.spent_and_lent()
                assert world.cost_nusd <= AMOUNT + world.beyond_nusd
                assert spent + lent <= AMOUNT + world.beyond_nusd
                assert spent <= world.cost_nusd
            for number in range(len(world.processes)):
                await world.crash(number)
            assert await world.spent_and_lent() == (world.cost_nusd, 0)
            await world.end()
        finally:
            await database.close()

    asyncio.run(live())


async def _do(world: World, step: str, number: int, value: int, is_bounded: bool) -> None:
    process = world.processes[number]
    match step:
        case "call":
            if await world.reserve(process, value):
                process.open = {**dict([process.open.popitem()]), **process.open}
                world.settle(process, value if is_bounded else 2 * value)
        case "reserve":
            await world.reserve(process, value)
        case "settle":
            estimate = next(iter(process.open.values()))[1] if process.open else 0
            world.settle(process, min(value, estimate) if is_bounded else value)
        case "move":
            await world.move(process, twice=bool(value))
        case "renew":
            await process.reservations.lender.renew()
        case "wait":
            world.now_s += value
        case "crash":
            await world.crash(number)


async def test_what_is_left_is_not_refused(database: Database) -> None:
    """Money that is lent to one process and not used comes back to the others: all of it can be spent."""
    world = await make_world(database)
    first, second, _ = world.processes
    assert await world.reserve(first, 100)
    world.settle(first, 40)
    await world.move(first)
    world.now_s += IDLE_S + 1
    await first.reservations.lender.renew()
    assert await world.spent_and_lent() == (40, 0)
    assert await world.reserve(second, AMOUNT - 40)
    assert not await world.reserve(first, 1)
    await world.end()


async def test_a_lease_that_nobody_renews_counts_as_spent_until_its_grace_is_over(database: Database) -> None:
    world = await make_world(database)
    first, second, _ = world.processes
    assert await world.reserve(first, 900)
    async with database.role(Role.LEDGER) as session:
        assert await store.end_lapsed(session, grace_s=60) == 0
    assert not await world.reserve(second, 200)
    async with database.role(Role.LEDGER) as session:
        await session.execute(store.update(store.BudgetLeaseRow).values(expires_at=world.budget.created_at))
        assert await store.end_lapsed(session, grace_s=0) == 2  # one of them with nothing in it
    world.now_s += 1
    assert await world.reserve(second, 1000)
    await world.end()


async def test_what_calls_cost_beyond_their_reservation_is_not_there_for_others(database: Database) -> None:
    """Nor for the same process, whether it is entered yet or not."""
    world = await make_world(database)
    first, second, _ = world.processes
    assert await world.reserve(first, 100)
    world.settle(first, 900)
    assert not await world.reserve(first, 200)
    await world.move(first)
    assert not await world.reserve(second, 200)
    assert await world.spent_and_lent() == (900, 0)
    world.now_s += 1
    assert await world.reserve(second, 100)
    await world.end()


async def test_what_is_spent_and_not_entered_yet_is_not_spent_again(database: Database) -> None:
    world = await make_world(database)
    first = world.processes[0]
    for _ in range(3):
        if await world.reserve(first, 400):
            world.settle(first, 400)
    assert world.cost_nusd == 800
    await world.move(first)
    world.now_s += 1
    assert not await world.reserve(first, 400)
    await world.end()


async def test_two_that_ask_at_once_are_lent_to_one_after_the_other(database: Database) -> None:
    """The second waits for the first's transaction, and sees what it was lent."""
    world = await make_world(database)

    async def lease(session: AsyncSession, holder: str) -> int:
        answer = await store.lease(
            session,
            world.budget,
            world.budget.period_at(world.budget.created_at),
            holder=holder,
            needed_nusd=700,
            smallest_nusd=1,
            wished_nusd=0,
            lease_s=30,
            grace_s=0,
        )
        assert answer is not None
        return answer[0]

    async def second() -> int:
        async with database.role(Role.LEDGER) as session:
            return await lease(session, "second")

    async with database.role(Role.LEDGER) as session:
        assert await lease(session, "first") == 700
        asking = asyncio.create_task(second())
        done, _ = await asyncio.wait([asking], timeout=0.3)
        assert not done
    assert await asking == AMOUNT - 700
    await world.end()


async def test_a_lease_that_lapsed_is_nobodys_and_does_not_come_back(database: Database) -> None:
    """Its process was away for longer than lease and grace: others may have been lent the money."""
    world = await make_world(database, grace_s=0.0)
    first, second, _ = world.processes
    assert await world.reserve(first, 900)
    world.settle(first, 0)
    async with database.role(Role.LEDGER) as session:
        await session.execute(store.update(store.BudgetLeaseRow).values(expires_at=world.budget.created_at))
    assert await world.reserve(second, 1000)
    await first.reservations.lender.renew()
    world.now_s += 1
    assert not await world.reserve(first, 500)
    await world.end()


async def test_a_budget_that_is_deleted_meanwhile_holds_nobody_up(database: Database) -> None:
    """Who asks it for money waits for the end of the transaction, and goes on."""
    world = await make_world(database)
    async with database.tenant(world.tenant_id) as session:
        assert await store.remove(session, world.tenant_id, world.budget.id)
        asking = asyncio.create_task(world.reserve(world.processes[0], 50))
        done, _ = await asyncio.wait([asking], timeout=0.3)
        assert not done
    assert await asking
    await world.end()


async def test_a_day_that_begins_in_an_hour_that_comes_twice_is_one_day(database: Database, database_url: str) -> None:
    """Wherever the server is: on the day on which clocks are set back in Berlin midnight UTC is ambiguous there."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("alter role all set timezone = 'Europe/Berlin'")
    try:
        other = Database(pool_size=1)
        await other.open(database_url)
        midnight = datetime(2026, 10, 25, tzinfo=UTC)
        async with other.role(Role.APP) as session:
            found = (await session.execute(text("select cast(:at as timestamptz)"), {"at": midnight})).scalar_one()
        await other.close()
        assert {midnight: 1}.get(found) == 1
    finally:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute("alter role all reset timezone")


async def test_waiting_calls_are_served_by_one_question(database: Database) -> None:
    """And who finds nothing left is refused, without asking each for itself."""
    world = await make_world(database)
    served = await asyncio.gather(*(world.reserve(world.processes[0], 50) for _ in range(200)))
    assert sum(served) == AMOUNT // 50
    assert world.processes[0].reservations.lender.n_asked <= 4
    await world.end()


async def test_many_processes_at_once_never_lend_the_same_money(database: Database) -> None:
    world = await make_world(database)
    served = await asyncio.gather(*(world.reserve(world.processes[n % 3], 50) for n in range(300)))
    assert AMOUNT // 50 - 2 <= sum(served) <= AMOUNT // 50
    await world.end()
