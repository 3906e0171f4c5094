"""What is told of each call, whoever it was for: its metrics, its target's traffic and breaker, and its account."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.llm.accounting import Account, Happened
from app.llm.instruments import Finished, Instruments, outcome_of
from app.llm.legs import Leg, Legs
from app.llm.model import Call, Target, Usage
from app.llm.relay import Opened, Seen
from app.llm.tokens import estimated_usage
from app.llm.traffic import Traffic
from app.llm.verdicts import verdict_on
from plugins.contract.errors import WattosError

logger = logging.getLogger("llm")

T = TypeVar("T")


class Reports:
    """Nothing here waits, but for the counting of tokens that a target did not tell."""

    def __init__(self, instruments: Instruments, traffic: Traffic, legs: Legs) -> None:
        self._instruments = instruments
        self._legs = legs
        self._traffic = traffic
        self._counting: set[asyncio.Task[None]] = set()

    def counted(
        self, attempt: Callable[[Target], Awaitable[T]], *, is_whole: bool = True
    ) -> Callable[[Target], Awaitable[T]]:
        """The same, counted and timed. What is not whole yet, a stream that began, is counted when it ends."""

        async def counted(target: Target) -> T:
            began_s = time.monotonic()
            self._traffic.begin(target.known_as)
            try:
                value = await attempt(target)
            except BaseException as exc:
                self._instruments.called(target, outcome_of(exc))
                self._traffic.end(target.known_as, None, has_failed=_is_its_own(exc, target))
                raise
            finally:
                took_ms = (time.monotonic() - began_s) * 1000
                self._instruments.took(target, took_ms)
            if is_whole:
                self._traffic.end(target.known_as, took_ms, is_whole=True)
                self._instruments.called(target, "ok")
            return value

        return counted

    def ended(
        self,
        call: Call,
        opened: Opened,
        outcome: str,
        usage: Usage | None,
        seen: Seen,
        broken: WattosError | None = None,
    ) -> asyncio.Task[None] | None:
        """A stream is over, however. What the target did not count is counted here, after the client has gone."""
        opened.place.release()
        if broken is not None or outcome == "ok":
            self._legs.ended(opened.target, broken, opened.since_s)
        self._traffic.end(
            opened.target.known_as,
            opened.first_token_ms,
            total_ms=(time.monotonic() - opened.sent_s) * 1000 if outcome == "ok" else None,
            has_failed=outcome not in {"ok", "cancelled"} and not (opened.target.own_key_id or _is_late(call)),
        )
        self._instruments.called(opened.target, outcome)

        def report(counted: Usage | None) -> None:
            n_sent, first_token_ms = opened.attempts.n_sent, opened.first_token_ms
            self.report(opened.target, n_sent, outcome, counted, opened.began_s, opened.account, first_token_ms)

        if usage is not None:
            report(usage)
            return None

        async def count() -> None:
            try:
                counted = await estimated_usage(call, seen.wires, are_events=True, n_bytes=seen.n_bytes)
            except Exception:  # what the call had reserved must come back
                logger.exception("tokens could not be counted")
                counted = None
            report(counted)

        counting = asyncio.create_task(count(), name="count-tokens")
        self._counting.add(counting)
        counting.add_done_callback(self._counting.discard)
        return counting

    def unread(self, opened: Opened) -> None:
        """A stream that began when another one had won already."""
        self._traffic.end(opened.target.known_as, opened.first_token_ms)
        self._instruments.called(opened.target, "cancelled")

    def discarded(self, leg: Leg[T], n_sent: int, usage: Usage | None) -> None:
        """What it used is used, whoever answered the request. The request's own line tells of the winner."""
        cost_nusd = leg.target.cost_nusd(usage)
        leg.account.close(
            Happened(
                outcome="cancelled",
                target=leg.target.id,
                attempts=n_sent,
                is_under_way=True,
                usage=usage,
                cost_nusd=cost_nusd,
            )
        )
        self._instruments.used(leg.target, usage, cost_nusd)

    async def settle(self) -> None:
        """Wait for what is still being counted: before the process ends."""
        await asyncio.gather(*self._counting, return_exceptions=True)

    def report(
        self,
        target: Target,
        n_sent: int,
        outcome: str,
        usage: Usage | None,
        began_s: float,
        account: Account,
        first_token_ms: float | None = None,
    ) -> int | None:
        """Returns: the cost."""
        cost_nusd = target.cost_nusd(usage)
        account.close(
            Happened(
                outcome=outcome,
                target=target.id,
                attempts=n_sent,
                is_under_way=True,
                usage=usage,
                cost_nusd=cost_nusd,
                first_token_ms=first_token_ms,
            )
        )
        self._instruments.finished(
            Finished(
                target=target,
                attempts=n_sent,
                outcome=outcome,
                usage=usage,
                cost_nusd=cost_nusd,
                duration_ms=(time.monotonic() - began_s) * 1000,
            )
        )
        return cost_nusd


def _is_late(call: Call) -> bool:
    """Its caller's patience is at its end, which is nobody's fault."""
    return call.deadline_s is not None and asyncio.get_running_loop().time() >= call.deadline_s


def _is_its_own(exc: BaseException, target: Target) -> bool:
    """Whether it is the target that failed: not the request, nor a tenant's own key, nor the caller's patience."""
    return isinstance(exc, WattosError) and not target.own_key_id and verdict_on(exc).then == "next"
