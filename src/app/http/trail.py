"""The trail of one model call, as response headers."""

from __future__ import annotations


def trail_headers(
    *, target: str, attempts: int, cost_nusd: int | None, cache: str | None = None, saved_nusd: int | None = None
) -> dict[str, str]:
    """Without a known price there is no cost header, rather than a wrong one.

    `cache`: `hit`, `miss` or `off`; of a hit `saved_nusd` is what it cost when it was made.
    """
    headers = {"x-wattos-target": target, "x-wattos-attempts": str(attempts)}
    if cost_nusd is not None:
        headers["x-wattos-cost-nusd"] = str(cost_nusd)
    if cache is not None:
        headers["x-wattos-cache"] = cache
    if saved_nusd is not None:
        headers["x-wattos-saved-nusd"] = str(saved_nusd)
    return headers
