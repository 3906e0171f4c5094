"""One credential, as limits see it."""

from __future__ import annotations

from typing import Literal

from plugins.contract.limits import LimitState
from plugins.security.limits.share import Share, Slots


class Caller:
    """The limits that one credential is under, as shares: of its tenant, its user and itself."""

    __slots__ = ("requests", "slots", "tokens")

    def __init__(self, requests: tuple[Share, ...], tokens: tuple[Share, ...], slots: tuple[Slots, ...]) -> None:
        self.requests = requests
        self.tokens = tokens
        self.slots = slots

    def states(self, now_s: float) -> tuple[LimitState, ...]:
        """Of each unit the limit with the least left."""
        found: list[LimitState] = []
        for shares in (self.requests, self.tokens):
            if shares:
                left = [share.remaining(now_s) for share in shares]
                remaining = min(left)
                least = shares[left.index(remaining)]
                unit: Literal["requests", "tokens"] = "tokens" if least.kind == "tokens" else "requests"
                found.append(LimitState(unit, least.limit, max(0, remaining), least.reset_s(now_s)))
        return tuple(found)
