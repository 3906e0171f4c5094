"""What a task works for, wherever it is asked."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from plugins.contract.work import Work, current_work, doing, for_tenant, waited_for_model, worked_for_model


async def test_tasks_and_threads_begun_meanwhile_work_for_the_same() -> None:
    """And those begun before or after do not."""
    work = Work({"reqId": "one"})
    go = asyncio.Event()

    async def found() -> Work | None:
        await go.wait()
        return current_work()

    before = asyncio.create_task(found())
    with doing(work):
        meanwhile = asyncio.create_task(found())
        assert await asyncio.to_thread(current_work) is work
    after = asyncio.create_task(found())
    go.set()
    assert [await before, await meanwhile, await after] == [None, work, None]


async def test_the_tenant_found_in_a_task_is_that_of_all_the_work() -> None:
    """Authentication may run deeper than what logs."""
    tenant_id = uuid4()
    with doing(work := Work({})):
        await asyncio.create_task(asyncio.sleep(0))
        await asyncio.create_task(_authenticate(tenant_id))
        for_tenant(None)
    assert work.fields == {"tenant": f"ten_{tenant_id.hex}"}


async def _authenticate(tenant_id: object) -> None:
    for_tenant(tenant_id)  # type: ignore[arg-type]


def test_waiting_is_summed_and_our_own_share_taken_off() -> None:
    """A client library's work is ours, not waiting."""
    with doing(work := Work({})):
        worked_for_model(0.5)
        waited_for_model(2.0)
        waited_for_model(1.0)
    assert (work.waited_s, work.n_waits) == (2.5, 2)


def test_without_any_work_nothing_happens() -> None:
    """As with the plugin off."""
    for_tenant(uuid4())
    waited_for_model(1)
    worked_for_model(1)
    assert current_work() is None
