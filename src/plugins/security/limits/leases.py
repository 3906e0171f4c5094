"""Shares of limits and how they move: asked for in a heartbeat, at once when a request needs some, and when alone.

While Valkey answers, shares follow the need. When it does not, nobody waits for it: shares stay for `LEASE_S`, then
they only shrink, and once no share of before can count any more, each replica has its part of each limit. So all
shares together are never more than the limit, whatever dies when. docs/LIMITS.md has the argument.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal
from weakref import WeakValueDictionary

from plugins.contract.errors import RetryableError
from plugins.security.limits.exchange import CHUNK, Exchange
from plugins.security.limits.planning import plan
from plugins.security.limits.script import GRACE_S, LEASE_S, SETTLED_S
from plugins.security.limits.share import KEPT_S, Share, Slots, Tally

logger = logging.getLogger("security")

BEAT_S: Final = 0.25
"""Four in the second after which a change must be in force."""

IDLE_BEAT_S: Final = 1.0
"""Where nothing is limited: under `GAP_S`, so that Valkey is not thought to have been away."""

WAIT_S: Final = 0.15
"""How long a request waits for shares in all."""

PATIENCE_S: Final = BEAT_S + 0.05
"""How much longer where others have some that they do not use: in that time each has had a beat to give it back."""

FRESH_S: Final = BEAT_S + 0.05
"""An answer of this age is not asked for again."""

MAX_ACTIVE: Final = 100_000
"""Limits in use at once: some 60 MB. Beyond them strange addresses share one."""

Phase = Literal["lent", "shrunk", "divided"]


class Leases:
    """All shares of one replica. For one event loop. Nothing but `wait_for_room` and the beats waits."""

    def __init__(
        self, exchange: Exchange | None, *, n_replicas: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`exchange` None: nothing is shared, and each of `n_replicas` has its part."""
        self._exchange = exchange
        self._n_configured = n_replicas
        self.clock = clock
        self._known: WeakValueDictionary[str, Share] = WeakValueDictionary()
        self.active: dict[str, Share] = {}
        """Those that hold something, or are waited for."""
        self._n_alone = n_replicas if exchange is None or n_replicas > 1 else None
        """By how many each limit is divided without Valkey. None: nobody knows, so nobody has any."""
        self._phase: Phase = "divided" if exchange is None else "shrunk"
        self._heard_at_s = clock()
        self.phase_ends_s = float("inf") if exchange is None else self._heard_at_s + SETTLED_S
        self._epoch = 0
        self._is_lending = False
        self._n_failures = 0
        self._is_alone = exchange is None
        self._beat_at_s = float("-inf")
        self._asked: set[Share] = set()
        self._wake = asyncio.Event()
        self._turn: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def share(self, key: str, limit: int, tally: Tally) -> Share:
        """The one share of this limit, which is `limit` from now on."""
        share = self._known.get(key)
        if share is None:
            kind = Slots if tally.kind == "concurrency" else Share
            share = self._known[key] = kind(key, limit, tally)
            if self._exchange is not None:
                share.pool = limit  # as far as is known; the first answer tells
            if self._phase == "divided" or (tally.scope == "address" and not self._epoch):
                share.share = self._part(share)
                self.active[key] = share
        elif share.limit != limit:
            share.limit = limit
            share.share = self._part(share) if self._phase == "divided" else min(share.share, limit)
        return share

    def age(self, now_s: float) -> None:
        """For whoever finds `phase_ends_s` passed, as one that was stopped and goes on: no share is good for ever."""
        if self._phase == "lent" and now_s >= self._heard_at_s + LEASE_S:
            self._phase, self.phase_ends_s = "shrunk", self._heard_at_s + SETTLED_S
            for share in self.active.values():
                share.share = min(share.share, self._part(share))
        if self._phase == "shrunk" and now_s >= self._heard_at_s + SETTLED_S:
            self._phase, self.phase_ends_s = "divided", float("inf")
            for share in self._known.values():
                share.share = self._part(share)
                self.active[share.key] = share

    async def wait_for_room(self, needs: Sequence[tuple[Share, int]]) -> Share | None:
        """Returns: None once all have room (what follows must not wait), or one that has none and gets none."""
        loop = asyncio.get_running_loop()
        for share, units in needs:
            self.active.setdefault(share.key, share)
            share.waiting += units
        try:
            deadline_s = loop.time() + WAIT_S
            is_patient, n_asked = True, 0
            while True:
                now_s = self.clock()
                if now_s >= self.phase_ends_s:
                    self.age(now_s)
                lacking = next(((share, units) for share, units in needs if share.room(now_s) < units), None)
                if lacking is None:
                    return None
                share, units = lacking
                if self._is_alone or (n_asked and not self._is_lending):
                    return share
                is_fresh = now_s - share.answered_at_s < FRESH_S
                is_used_up = is_fresh and share.room(now_s) + share.pool < units
                if is_used_up and not share.idle_elsewhere:
                    share.missed = min(share.limit, share.missed + units)
                    return share
                if is_used_up and n_asked:
                    if not is_patient:
                        share.missed = min(share.limit, share.missed + units)
                        return share
                    is_patient = False
                    await asyncio.sleep(PATIENCE_S)
                    deadline_s = loop.time() + WAIT_S
                left_s = deadline_s - loop.time()
                if left_s <= 0:
                    return share
                await asyncio.wait([self._next_turn(needs)], timeout=left_s)
                n_asked += 1
        finally:
            for share, units in needs:
                share.waiting -= units

    def start(self) -> None:
        self._task = asyncio.create_task(self._beat_for_ever(), name="limits")

    async def started(self) -> None:
        """Returns when shares are lent, or Valkey has had its time: after that it is done without."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + GRACE_S + IDLE_BEAT_S
        while not self._is_lending and not self._is_alone and (left_s := until_s - loop.time()) > 0:
            await asyncio.wait([self._next_turn(())], timeout=left_s)

    async def stop(self) -> None:
        """Give back all but what counts still."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.farewell()

    async def farewell(self) -> None:
        if self._exchange is None or self._is_alone or not self._epoch:
            return
        now_s = self.clock()
        left = [*self.active.values()]
        for share in left:
            share.room(now_s)
            share.share = share.used
            share.told = (share.used, share.used, share.used)
        try:
            for first in range(0, len(left), CHUNK):
                await self._exchange.call(left[first : first + CHUNK])
            # What counts still is told by nobody, should Valkey forget it: until it is over we are missed.
            if not any(share.used for share in left):
                await self._exchange.call((), is_farewell=True)
        except RetryableError:
            pass  # it is free when its time is over

    async def turn(self) -> None:
        """A beat if it is time for one, else what is asked for."""
        now_s = self.clock()
        if now_s >= self.phase_ends_s:
            self.age(now_s)
        is_beat = now_s >= self._beat_at_s
        if not is_beat and not self._asked:
            return
        turn, self._turn = self._turn, None
        asked, self._asked = self._asked, set()
        try:
            if self._exchange is None:
                self._beat_at_s = now_s + IDLE_BEAT_S
                self._forget_unused(now_s)
            elif is_beat:
                await self._beat(self._exchange, asked, now_s)
            else:
                await self._ask(self._exchange, asked, now_s)
        finally:
            if turn is not None and not turn.done():
                turn.set_result(None)

    async def _beat_for_ever(self) -> None:
        while True:
            delay_s = self._beat_at_s - self.clock()
            if delay_s > 0 and not self._asked:
                self._wake.clear()
                try:
                    async with asyncio.timeout(delay_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass
            await self.turn()

    def _next_turn(self, needs: Sequence[tuple[Share, int]]) -> asyncio.Future[None]:
        """Of the exchange that begins next: the one under way does not know of these."""
        self._asked.update(share for share, _ in needs)
        if self._turn is None:
            self._turn = asyncio.get_running_loop().create_future()
        self._wake.set()
        return self._turn

    async def _beat(self, exchange: Exchange, asked: set[Share], now_s: float) -> None:
        self._beat_at_s = now_s + (BEAT_S if self.active else IDLE_BEAT_S)
        shares = [share for share in self.active.values() if self._plan(share, now_s) or share in asked]
        epoch = self._epoch
        try:
            for first in range(0, max(1, len(shares)), CHUNK):
                part = shares[first : first + CHUNK]
                is_last = first + CHUNK >= len(shares)
                await self._call(exchange, part, now_s, whole_epoch=epoch if is_last and epoch == self._epoch else 0)
        except RetryableError as exc:
            self._failed(exc, now_s)
            return
        if epoch != self._epoch:  # what was told in the one before must be told again
            self._beat_at_s = now_s
            return
        if self._phase == "divided":
            for share in self.active.values():
                if share.epoch != epoch:  # it came meanwhile, so nobody was told
                    share.share = share.used
        self._heard_at_s, self._phase, self.phase_ends_s = now_s, "lent", now_s + LEASE_S
        self._forget_unused(now_s)

    async def _ask(self, exchange: Exchange, asked: set[Share], now_s: float) -> None:
        shares = [*asked][:CHUNK]
        self._asked.update([*asked][CHUNK:])
        for share in shares:
            self._plan(share, now_s)
        try:
            await self._call(exchange, shares, now_s)
        except RetryableError as exc:
            self._failed(exc, now_s)

    async def _call(self, exchange: Exchange, shares: Sequence[Share], now_s: float, *, whole_epoch: int = 0) -> None:
        news = await exchange.call(shares, whole_epoch=whole_epoch)
        self._epoch, self._is_lending = news.epoch, news.is_lending
        if news.is_lending and news.is_known_to_all:
            self._n_alone = news.n_replicas
        elif self._n_alone is not None:
            self._n_alone = max(self._n_alone, news.n_replicas)
        if self._is_alone:
            logger.info("limits are shared by %d replicas again", news.n_replicas)
        self._is_alone, self._n_failures = False, 0
        for share in shares:
            share.told_at_s = now_s
            if share.unmet_elsewhere and share.share > share.used + share.waiting:
                self._next_turn([(share, 0)])  # others wait for what we do not use

    def _failed(self, exc: RetryableError, now_s: float) -> None:
        """Once may be a hiccup of ours: it is tried again at once, and those who wait do so a little longer."""
        self._n_failures += 1
        if self._n_failures == 1:
            self._beat_at_s = now_s
        elif not self._is_alone:
            self._is_alone = True
            logger.warning("limits are kept without the other replicas: %s", exc.message)

    def _plan(self, share: Share, now_s: float) -> bool:
        n_replicas = self._exchange.n_replicas if self._exchange else 1
        return plan(
            share,
            now_s,
            n_replicas=max(1, n_replicas),
            epoch=self._epoch,
            is_lending=self._is_lending,
            is_heard=not self._n_failures,
        )

    def _part(self, share: Share) -> int:
        """Alone. Of strange addresses nobody can know, and somebody must be able to sign in."""
        if self._n_alone is None:
            return share.limit // self._n_configured if share.scope == "address" else 0
        return share.limit // self._n_alone

    def _forget_unused(self, now_s: float) -> None:
        for share in [*self.active.values()]:
            share.room(now_s)
            if share.used or share.waiting:
                continue
            is_given_back = not share.share and share.told == (0, 0, 0)
            if is_given_back or (self._exchange is None and now_s - share.used_at_s > KEPT_S):
                del self.active[share.key]
