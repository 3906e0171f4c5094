"""Which errors of a target move on: the table, and that the guard retries exactly those that it says."""

from __future__ import annotations

import pytest

from app.errors import (
    AllTargetsFailed,
    ContentRefused,
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from app.llm.verdicts import TABLE, verdict_on
from plugins.contract.errors import CircuitOpen, RetryableError, WattosError

CASES: dict[type[WattosError], tuple[str, bool]] = {
    UpstreamRateLimited: ("next", True),
    UpstreamTimeout: ("next", True),
    UpstreamUnavailable: ("next", True),
    UpstreamError: ("next", True),
    AllTargetsFailed: ("next", True),
    RetryableError: ("next", True),
    CircuitOpen: ("next", False),
    UpstreamMisconfigured: ("next", False),
    DeadlineExceeded: ("stop", False),
    ContextTooLong: ("longer", False),
    ContentRefused: ("lenient", False),
    UpstreamRejected: ("stop", False),
    InvalidRequest: ("stop", False),
    WattosError: ("stop", False),
}


@pytest.mark.parametrize("kind", CASES)
def test_each_error_has_its_verdict(kind: type[WattosError]) -> None:
    """A bad request never falls through to five vendors."""
    verdict = verdict_on(kind("x"))
    assert (verdict.then, verdict.here) == CASES[kind]


def test_a_row_is_never_hidden_by_one_above() -> None:
    """The first row that fits counts, so children stand before their parents."""
    kinds = [kind for kind, _ in TABLE]
    for number, kind in enumerate(kinds):
        assert not any(issubclass(kind, above) for above in kinds[:number])
