"""The trail of one model call, as response headers."""

from __future__ import annotations


def trail_headers(*, target: str, attempts: int, cost_nusd: int | None) -> dict[str, str]:
    """Without a known price there is no cost header, rather than a wrong one."""
    headers = {"x-wattos-target": target, "x-wattos-attempts": str(attempts)}
    if cost_nusd is not None:
        headers["x-wattos-cost-nusd"] = str(cost_nusd)
    return headers
