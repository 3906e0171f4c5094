"""For every process that we start: it dies with us. Standard library only, as children import it first.

`database/launcher.py` alone has its own line for this: it runs without our packages on its path.
"""

from __future__ import annotations

import ctypes
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2): send me this signal when the thread that forked me is gone."""


def die_with_parent(number: int) -> None:
    """Ask the kernel for this signal at the parent's death. Linux only; elsewhere it does nothing.

    It fires when the forking *thread* ends: fork in the thread of the event loop. A parent that is gone already is not
    noticed: compare `os.getppid()` afterwards where that matters.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
