"""Claims, leases and what is forgotten, on the real server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from app.audit.model import PLATFORM_CHAIN
from app.database.engine import Database, Role
from app.errors import IdempotencyAnswerNotKept, IdempotencyInProgress, IdempotencyKeyReused
from app.idempotency.model import Answer, Claim, Entry, Place
from app.idempotency.sealing import Secrets
from app.idempotency.service import RENEWALS, IdempotencyService
from unit.plugins.harness import eventually

SECRETS = Secrets("a secret of the tests")
ANSWER = Answer(200, [(b"content-type", b"application/json")], b"{}")
PRINT = SECRETS.fingerprint(b"").done()
OTHER = SECRETS.fingerprint(b"other").done()


class Time:
    """Stands still but for sleeps, which do not wait: each turn, another task may run."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.sleeps_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.sleeps_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


def service(
    database: Database, *, secrets: Secrets = SECRETS, lease_s: float = 60, keep_s: float = 60, time: Time | None = None
) -> IdempotencyService:
    """Negative: over at once."""
    clock = time or Time()
    return IdempotencyService(
        database, secrets, wait_s=2, lease_s=lease_s, keep_s=keep_s, clock=clock, sleep=clock.sleep
    )


def place(tenant_id: UUID | None = None) -> Place:
    return Place(tenant_id or uuid4(), uuid4().bytes * 2)


async def claimed(by: IdempotencyService, at: Place, fingerprint: bytes | None = PRINT) -> Claim:
    found = await by.enter(at, fingerprint)
    assert isinstance(found, Claim)
    return found


async def test_of_many_at_once_one_gets_the_claim(database: Database) -> None:
    """The others see that it is under way; the platform's own place works alike."""
    keys = service(database)
    for at in (place(), place(PLATFORM_CHAIN)):
        found: Sequence[Claim | Entry] = await asyncio.gather(*(keys.enter(at, PRINT) for _ in range(8)))
        assert sum(isinstance(one, Claim) for one in found) == 1
        entries = [one for one in found if isinstance(one, Entry)]
        assert {(one.status, one.has_lapsed, one.fingerprint) for one in entries} == {(None, False, PRINT)}


async def test_an_answer_is_everybodys_once_it_is_there(database: Database) -> None:
    """For the same body; another one is refused, under way or not."""
    keys, at = service(database), place()
    claim = await claimed(keys, at)
    with pytest.raises(IdempotencyKeyReused):
        await keys.answer_or_claim(at, OTHER)
    await keys.finish(claim, PRINT, 200, ANSWER)
    assert await keys.answer_or_claim(at, PRINT) == await keys.answer(at, PRINT) == ANSWER
    with pytest.raises(IdempotencyKeyReused):
        await keys.answer_or_claim(at, OTHER)


async def test_waiting_is_bounded_and_looks_less_and_less_often(database: Database) -> None:
    """Each pause twice as long, up to half a second."""
    time = Time()
    keys, at = service(database, time=time), place()
    await claimed(keys, at)
    with pytest.raises(IdempotencyInProgress) as caught:
        await keys.answer_or_claim(at, PRINT)
    assert caught.value.retry_after_s
    assert time.sleeps_s[:5] == [0.05, 0.1, 0.2, 0.4, 0.5]
    assert sum(time.sleeps_s) == pytest.approx(2)


async def test_a_released_key_is_free_at_once(database: Database) -> None:
    """As if nobody had asked; who only waited for it is told to send it again."""
    keys, at = service(database), place()
    await keys.release(await claimed(keys, at))
    with pytest.raises(IdempotencyInProgress, match="send it again"):
        await keys.answer(at, PRINT)
    assert isinstance(await keys.answer_or_claim(at, OTHER), Claim)


async def test_a_lapsed_lease_is_taken_over_by_one(database: Database) -> None:
    """What its owner brings later is thrown away, and so is its release."""
    dead, keys, at = service(database, lease_s=-1), service(database), place()
    late = await claimed(dead, at)
    found = await asyncio.gather(*(keys.enter(at, PRINT) for _ in range(8)))
    (claim,) = [one for one in found if isinstance(one, Claim)]
    await keys.finish(late, PRINT, 200, Answer(200, [], b"late"))
    await keys.release(late)
    await keys.finish(claim, PRINT, 200, ANSWER)
    assert await keys.answer_or_claim(at, PRINT) == ANSWER


async def test_a_held_claim_is_renewed(database: Database) -> None:
    """Several times in each lease, until it is over or somebody else's."""
    time = Time()
    keys, at = service(database, lease_s=30, time=time), place()
    claim = await claimed(service(database, lease_s=-1), at)
    async with asyncio.timeout(10), keys.held(claim):
        await eventually(lambda: len(time.sleeps_s) > RENEWALS)
        found = await keys.enter(at, PRINT)
    assert isinstance(found, Entry)
    assert not found.has_lapsed
    assert set(time.sleeps_s) == {30 / RENEWALS}


async def test_an_old_answer_is_forgotten(database: Database) -> None:
    """After its time another request may have its key, whatever its body."""
    keys, at = service(database, keep_s=-1), place()
    await keys.finish(await claimed(keys, at), PRINT, 200, ANSWER)
    assert isinstance(await keys.answer_or_claim(at, OTHER), Claim)


async def test_what_cannot_be_answered_again_says_so_and_is_not_done_again(database: Database) -> None:
    """An answer that was too large, and rows of another secret."""
    keys, large, old = service(database), place(), place()
    await keys.finish(await claimed(keys, large), PRINT, 200, None)
    before = Secrets("before the rotation")
    fingerprint = before.fingerprint(b"").done()
    rotated = service(database, secrets=before)
    await rotated.finish(await claimed(rotated, old, fingerprint), fingerprint, 200, ANSWER)
    for at in (large, old):
        with pytest.raises(IdempotencyAnswerNotKept):
            await keys.answer_or_claim(at, PRINT)


async def test_upkeep_forgets_what_is_over_and_nothing_else(database: Database) -> None:
    """Of all tenants, by a role that sees no answer and can delete nothing that is still kept."""
    keys, old = service(database), service(database, keep_s=-1, lease_s=-1)
    done, under_way, gone, dead = place(), place(), place(), place()
    await keys.finish(await claimed(keys, done), PRINT, 200, ANSWER)
    await claimed(keys, under_way)
    await old.finish(await claimed(old, gone), PRINT, 200, ANSWER)
    await claimed(old, dead)
    await keys.forget_old()

    async def is_there(at: Place) -> bool:
        async with database.tenant(at.tenant_id) as session:
            found = await session.execute(text("select from idempotent_requests where id = :id"), {"id": at.id})
            return found.one_or_none() is not None

    assert [await is_there(at) for at in (done, under_way, gone, dead)] == [True, True, False, False]
    async with database.role(Role.JOBS) as session:
        await session.execute(text("delete from idempotent_requests"))
    assert [await is_there(at) for at in (done, under_way)] == [True, True]


async def test_a_tenant_sees_its_own_rows_alone(database: Database) -> None:
    """Even one that knows another's id: the database's own boundary."""
    keys, theirs = service(database), place()
    await keys.finish(await claimed(keys, theirs), PRINT, 200, ANSWER)
    assert isinstance(await keys.enter(Place(uuid4(), theirs.id), PRINT), Claim)
    async with database.tenant(uuid4()) as session:
        found = await session.execute(text("select from idempotent_requests where id = :id"), {"id": theirs.id})
        assert found.one_or_none() is None
