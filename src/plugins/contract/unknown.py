"""Variables that look like settings and are none. A slip in a name would silently leave the default in force."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

OWN_PREFIXES = ("PLUGINS_", "PLUGIN_", "CIRCUIT_BREAKER_", "RETRY_", "WATTOS_")
"""Names that begin like this can only be meant for us. (`APP_` and `DATABASE_` cannot be claimed: others use them.)"""

_SERVICE_LINK = re.compile(r"\w+_(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")

SHORTEST_GUESSED = 7
"""Below this length one changed letter makes another word: `DATA_DIR` is guessed at, `HOME` never."""


def is_service_link(variable: str) -> bool:
    """What Kubernetes (`enableServiceLinks`) and old Docker links put into every container: `APP_PORT=tcp://…`."""
    return bool(_SERVICE_LINK.fullmatch(variable))


def unknown_settings(env: Mapping[str, str], known: Collection[str], tolerated: Iterable[str] = ()) -> list[str]:
    """One sentence for each variable that is meant for us and is not known.

    `tolerated`: prefixes of plugins that are off, whose settings nobody knows now.
    """
    prefixes = tuple(tolerated)
    problems: list[str] = []
    for variable in sorted(env):
        if variable in known or variable.startswith(prefixes):
            continue
        meant = next((name for name in sorted(known) if _is_slip(variable, name)), None)
        if meant is not None:
            problems.append(f"{variable} is no setting: did you mean {meant}?")
        elif variable.startswith(OWN_PREFIXES) and not is_service_link(variable):
            problems.append(f"{variable} is no setting of this release: `wattos settings` lists them")
    return problems


def _is_slip(variable: str, name: str) -> bool:
    """One letter too many, too few, wrong or swapped (two in a long name), or another case or dash."""
    if len(name) < SHORTEST_GUESSED:
        return False
    if variable.upper().replace("-", "_") == name:
        return True
    allowed = 2 if len(name) >= 14 else 1
    return abs(len(variable) - len(name)) <= allowed and _distance(variable, name) <= allowed


def _distance(a: str, b: str) -> int:
    """Edits between two names: insertion, deletion, substitution, swap of neighbours (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
