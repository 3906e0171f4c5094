"""A call in the journal: the intent before it is sent, its entry before its answer ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

import msgspec

from app.audit.model import PLATFORM_CHAIN
from app.billing.model import MAX_NUMBER, Intent, LedgerEntry, Outcome, Record, entry_of
from app.llm.accounting import Expected, Happened
from app.llm.model import Usage

MAX_TEXT = 200
"""Of a model's name: clients choose those that a wildcard stands for."""

_GIVEN_UP = frozenset({"cancelled", "upstream_timeout"})
"""By whoever made the call: they left, or their deadline came. A target's own time-out is its failure: then no call is
under way any more."""

_OUTCOMES: dict[str, Outcome] = {"ok": "ok", "cached": "cached", "cancelled": "cancelled"}


class Ledger:
    """`append` takes a record and does not wait: a journal's."""

    def __init__(self, append: Callable[[Record], None]) -> None:
        self._append = append

    def open(self, expected: Expected, call_id: UUID, *, is_announced: bool = True) -> OpenCall:
        """`call_id`: a UUIDv7 of now. What is closed at once need not be announced."""
        intent = Intent(
            id=call_id,
            tenant_id=expected.tenant_id or PLATFORM_CHAIN,
            key_id=expected.key_id,
            user_id=expected.user_id,
            model=_text(expected.model),
            endpoint=expected.endpoint,
            estimate_nusd=_number(expected.estimate_nusd),
        )
        if is_announced:
            self._append(intent)
        return OpenCall(intent, self._append)


class OpenCall:
    """Closed once."""

    __slots__ = ("_append", "_began_s", "_intent")

    def __init__(self, intent: Intent, append: Callable[[Record], None]) -> None:
        self._intent: Intent | None = intent
        self._append = append
        self._began_s = time.monotonic()

    def close(self, happened: Happened) -> LedgerEntry | None:
        """Returns: what is entered; None when it was closed before."""
        intent, self._intent = self._intent, None
        if intent is None:
            return None
        outcome, cost_nusd = _OUTCOMES.get(happened.outcome, "error"), happened.cost_nusd
        usage = happened.usage and _bounded(happened.usage)
        # Whoever gave up a call may well pay for it; one that failed, or was never sent, costs nothing.
        is_unknown = happened.is_under_way and usage is None and happened.outcome in _GIVEN_UP
        if usage is None and outcome != "ok":
            cost_nusd = intent.estimate_nusd if is_unknown else 0
        entry = entry_of(
            intent,
            outcome=outcome,
            error=happened.outcome if outcome == "error" else None,
            target=happened.target and _text(happened.target),
            attempts=happened.attempts,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else None,
            cache_write_tokens=usage.cache_write_tokens if usage else None,
            reasoning_tokens=usage.reasoning_tokens if usage else None,
            is_estimate=usage.is_estimate if usage else is_unknown,
            cost_nusd=_number(cost_nusd),
            latency_ms=(time.monotonic() - self._began_s) * 1000,
            first_token_ms=happened.first_token_ms,
        )
        self._append(entry)
        return entry


def _number(value: int | None) -> int | None:
    return None if value is None else min(value, MAX_NUMBER)


def _bounded(usage: Usage) -> Usage:
    """The same, unless a vendor counts beyond MAX_NUMBER."""
    most = max(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )
    if most <= MAX_NUMBER:
        return usage
    return Usage(**{name: min(value, MAX_NUMBER) for name, value in msgspec.structs.asdict(usage).items()})


def _text(value: str) -> str:
    """As a database takes it: no NUL, no half of a character."""
    if len(value) <= MAX_TEXT and value.isascii() and "\0" not in value:
        return value
    return value[:MAX_TEXT].replace("\0", "").encode(errors="replace").decode()
