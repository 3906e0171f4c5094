"""The rules: of requests that are the same, one is done at a time, and its answer is everybody's.

No transaction is open while a request is done. Who does one holds a lease on its row and renews it; a process that dies
lets it lapse, and the next one in line does the request again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from app.database.engine import Database, Role
from app.errors import IdempotencyInProgress, IdempotencyKeyReused
from app.idempotency import store
from app.idempotency.model import Answer, Claim, Entry, Place
from app.idempotency.sealing import Secrets, not_kept
from app.ids import new_id
from plugins.contract.errors import RetryableError

logger = logging.getLogger("idempotency")

LEASE_S = 10.0
"""How long a dead process keeps its requests from being done. A database that is away for less loses no lease."""

RENEWALS = 3
"""In one lease: two may fail."""

KEEP_S = 24 * 3600.0
"""Stripe's. Clients retry for minutes, queues for hours."""

FIRST_PAUSE_S, MAX_PAUSE_S = 0.05, 0.5
"""Between two looks at a request that is under way; each doubles. A hundred who wait cost 200 transactions a second."""

RETRY_AFTER_S = 2.0
"""Told to who waited in vain."""

FORGOTTEN_AT_ONCE = 1000
"""Rows in one statement of upkeep: short locks."""


class IdempotencyService:
    """Claims, waits, keeps and forgets."""

    def __init__(
        self,
        database: Database,
        secrets: Secrets,
        *,
        wait_s: float,
        lease_s: float = LEASE_S,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`wait_s`: how long a duplicate waits for the first. `clock`: monotonic seconds."""
        self.secrets = secrets
        self._database = database
        self._wait_s = wait_s
        self._lease_s = lease_s
        self._keep_s = keep_s
        self._clock = clock
        self._sleep = sleep

    async def enter(self, place: Place, fingerprint: bytes | None) -> Claim | Entry:
        """The claim, if nobody is at work there and nobody was; else what is known. `fingerprint` None: not read yet.

        Raises: DatabaseUnavailable.
        """
        claim = Claim(place, new_id())
        while True:
            async with self._database.tenant(place.tenant_id) as session:
                if await store.begin(session, claim, fingerprint, lease_s=self._lease_s):
                    return claim
                entry = await store.find(session, place)
                if entry is not None and not entry.has_lapsed:
                    return entry
                if entry and await store.take_over(session, claim, fingerprint, lease_s=self._lease_s):
                    if entry.status is None:
                        logger.warning("a request whose process ended before it was answered is done again")
                    return claim

    async def answer_or_claim(self, place: Place, fingerprint: bytes) -> Answer | Claim:
        """Waits for the first. Raises: as `settled`, and DatabaseUnavailable."""
        return await self._awaited(place, fingerprint, lambda: self.enter(place, fingerprint))

    async def answer(self, place: Place, fingerprint: bytes) -> Answer:
        """For who cannot do it (again): its body is gone. Raises: as `answer_or_claim`; IdempotencyInProgress too when
        the first came to nothing."""

        async def look() -> Entry:
            async with self._database.tenant(place.tenant_id) as session:
                entry = await store.find(session, place)
            if entry is None or entry.has_lapsed:
                raise IdempotencyInProgress("the first request came to nothing: send it again", retry_after_s=1)
            return entry

        found = await self._awaited(place, fingerprint, look)
        assert isinstance(found, Answer)  # nobody claims in `look`
        return found

    async def _awaited(
        self, place: Place, fingerprint: bytes, look: Callable[[], Awaitable[Claim | Entry]]
    ) -> Answer | Claim:
        until_s = self._clock() + self._wait_s
        pause_s = FIRST_PAUSE_S
        while True:
            found = await look()
            if isinstance(found, Claim):
                return found
            if (answer := await self._settled(place, found, fingerprint)) is not None:
                return answer
            left_s = until_s - self._clock()
            if left_s <= 0:
                raise IdempotencyInProgress(
                    "the first request with this key is still being done", retry_after_s=RETRY_AFTER_S
                )
            await self._sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    async def _settled(self, place: Place, entry: Entry, fingerprint: bytes) -> Answer | None:
        """Its answer; None while it is under way.

        Raises: IdempotencyKeyReused when that was another body, IdempotencyAnswerNotKept.
        """
        if entry.fingerprint is not None:
            if not self.secrets.is_ours(entry.fingerprint):
                raise not_kept()
            if not hmac.compare_digest(entry.fingerprint, fingerprint):
                raise IdempotencyKeyReused("this Idempotency-Key was used with another body or query: choose a new one")
        if entry.status is None:
            return None
        if entry.answer is None or entry.fingerprint is None:
            raise not_kept()
        return await asyncio.to_thread(self.secrets.open, place, entry.answer)

    @contextlib.asynccontextmanager
    async def held(self, claim: Claim) -> AsyncGenerator[None]:
        """While open, the claim is renewed."""
        task = asyncio.create_task(self._renew(claim), name="idempotency-lease")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def finish(self, claim: Claim, fingerprint: bytes | None, status: int, answer: Answer | None) -> None:
        """From now on this is the answer; None: one that is too large to be kept. Raises: DatabaseUnavailable."""
        sealed = None if answer is None else await asyncio.to_thread(self.secrets.close, claim.place, answer)
        async with self._database.tenant(claim.place.tenant_id) as session:
            is_ours = await store.finish(
                session, claim, fingerprint=fingerprint, status=status, answer=sealed, keep_s=self._keep_s
            )
        if not is_ours:
            logger.warning("an answer came after its lease was over: it is not kept")

    async def release(self, claim: Claim) -> None:
        """What came of it is no answer: the next one does it. Without a database its lease lapses."""
        try:
            async with self._database.tenant(claim.place.tenant_id) as session:
                await store.release(session, claim)
        except RetryableError as exc:
            logger.warning("a key is free again only after its lease: %s", exc.code)

    async def forget_old(self) -> None:
        """A chore. Raises: DatabaseUnavailable."""
        n_forgotten = FORGOTTEN_AT_ONCE
        while n_forgotten == FORGOTTEN_AT_ONCE:
            async with self._database.role(Role.JOBS) as session:
                n_forgotten = await store.forget(session, limit=FORGOTTEN_AT_ONCE)

    async def _renew(self, claim: Claim) -> None:
        is_ours = True
        while is_ours:
            await self._sleep(self._lease_s / RENEWALS)
            try:
                async with self._database.tenant(claim.place.tenant_id) as session:
                    is_ours = await store.renew(session, claim, lease_s=self._lease_s)
            except RetryableError as exc:
                logger.warning("a lease could not be renewed: %s", exc.code)
