"""What a replica would like to hold of a limit, and whether the others must hear of it."""

from __future__ import annotations

from typing import Final

from plugins.security.limits.share import Share

REPORT_S: Final = 1.0
"""How often a share is told of that did not change."""

RECENT_S: Final = 10.0
"""A share that was used within this time is told of in every beat while some of it is free: others may want it."""

IDLE_S: Final = 600.0
"""A share that was not used for so long is given back."""


def plan(share: Share, now_s: float, *, n_replicas: int, epoch: int, is_lending: bool, is_heard: bool) -> bool:
    """Sets `share.told`, what the others are told next; what is too much is given up here and now, before they are.

    `is_heard`: somebody answered when last asked. Returns: whether they must be told.
    """
    share.room(now_s)
    share.note_peak(now_s)
    missed, share.missed = share.missed, 0
    if share.unmet_elsewhere and share.share > share.limit // n_replicas:
        missed = 0  # who has more than its part passes on what comes free
    need = share.used + share.waiting + missed
    is_idle = now_s - share.used_at_s > IDLE_S and not share.waiting
    wanted = need if is_idle else min(share.limit, need + share.cushion(n_replicas))
    if not (is_heard and is_lending):
        wanted = max(wanted, share.share)  # nobody would get it, and it could not be had back
    share.share = min(share.share, wanted)
    told = (share.held, share.used, max(wanted, share.held))
    is_news = told != share.told or share.epoch != epoch or now_s - share.told_at_s >= REPORT_S
    is_wanted = share.share > share.used and now_s - share.used_at_s < RECENT_S
    share.told = told
    return is_news or is_wanted
