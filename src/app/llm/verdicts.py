"""Which errors move on: the one table. A bad request never falls through to five vendors.

`here`: the same target may do better in a moment, so it is asked again, with backoff, when no other is left.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from app.errors import (
    ContentRefused,
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    UpstreamMisconfigured,
    UpstreamRejected,
)
from plugins.contract.errors import CircuitOpen, RetryableError, WattosError

Then = Literal["next", "longer", "lenient", "stop"]
"""Ask the next target; those of `context_window_fallbacks`; those of `content_policy_fallbacks`; nobody else."""


class Verdict(msgspec.Struct, frozen=True):
    """What one kind of error means for the chain."""

    here: bool
    then: Then
    why: str


TABLE: tuple[tuple[type[WattosError], Verdict], ...] = (
    (DeadlineExceeded, Verdict(here=False, then="stop", why="the caller does not wait any longer")),
    (CircuitOpen, Verdict(here=False, then="next", why="nothing was sent: the target is left alone for a while")),
    (RetryableError, Verdict(here=True, then="next", why="away, too slow, overloaded, or an answer that is none")),
    (UpstreamMisconfigured, Verdict(here=False, then="next", why="our key, bill, model or address at this target")),
    (ContextTooLong, Verdict(here=False, then="longer", why="too long for this target's model")),
    (ContentRefused, Verdict(here=False, then="lenient", why="this target's content policy")),
    (UpstreamRejected, Verdict(here=False, then="stop", why="the request is wrong, says the vendor")),
    (InvalidRequest, Verdict(here=False, then="stop", why="the request is wrong")),
    (WattosError, Verdict(here=False, then="stop", why="nothing that another target could mend")),
)
"""The first row whose class the error is of counts."""


def verdict_on(exc: WattosError) -> Verdict:
    return next(verdict for kind, verdict in TABLE if isinstance(exc, kind))
