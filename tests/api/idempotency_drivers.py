"""What it takes to be answered with each code of idempotent requests: drivers for `error_drivers`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from raw_http import Answer
from upstream import answers, hangs

if TYPE_CHECKING:
    from api.error_drivers import Faulty


def _keyed(to: Faulty, key: str, **fields: object) -> Answer:
    body = {"model": "kind", "messages": [{"role": "user", "content": "ping"}], **fields}
    return to.http("POST", "/v1/chat/completions", json=body, headers={"idempotency-key": key})


def in_progress(to: Faulty) -> Answer:
    """The vendor lets the first one wait, and the second waits for it in vain."""
    to.upstream.on("kind", hangs)
    n_before = len(to.upstream.to("kind"))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(_keyed, to, "in-progress")
        to.upstream.wait_until(lambda: len(to.upstream.to("kind")) > n_before)
        answer = _keyed(to, "in-progress")
        to.upstream.release()
        first.result()
    to.upstream.reset()
    return answer


def reused(to: Faulty) -> Answer:
    """Another temperature is another body."""
    assert _keyed(to, "reused").status == 200
    return _keyed(to, "reused", temperature=0)


def not_kept(to: Faulty) -> Answer:
    """It was over a MiB."""
    to.upstream.on("kind", answers("x" * (1 << 20)))
    assert _keyed(to, "large").status == 200
    return _keyed(to, "large")
