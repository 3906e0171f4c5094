"""What is said of the process itself: which build it is, and how late its event loop is."""

from __future__ import annotations

import asyncio
import platform
import time
from importlib.metadata import version

from plugins.contract.ports import Meter

EVERY_S = 0.5
"""Twice a second costs nothing (20 µs each) and sees any blockage of half a second."""

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
"""An idle loop wakes within 1 ms; nothing of ours computes on it for over 5 ms; a second is a hanging server."""


def say_build(meter: Meter) -> None:
    """`wattos_build_info`, in Prometheus' usual form of a constant with labels."""
    build = meter.gauge("wattos_build_info", "Always 1: which release runs, on which Python.", ("version", "python"))
    build.set(1, version("wattos"), platform.python_version())


class LoopLag:
    """What every request waits for when something computes on the loop; measured with a timer."""

    def __init__(self, meter: Meter) -> None:
        self._lag_s = meter.histogram(
            "event_loop_lag_seconds",
            "Seconds that a timer of the event loop fired late, taken twice a second.",
            buckets=BUCKETS_S,
        )

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            due_s = time.perf_counter() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._lag_s.observe(max(0.0, time.perf_counter() - due_s))
