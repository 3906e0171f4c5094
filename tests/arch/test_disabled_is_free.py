"""What is off is not there: no module, no library, no route, no middleware, no task, no thread, no connection."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from plugins.contract.discovery import BUILT_IN, toggle_of

PROBE = Path(__file__).with_name("plugin_probe.py")

BRINGS: dict[str, dict[str, set[str]]] = {
    "libraries": {
        "observability": {"prometheus_client", "pythonjsonlogger"},
        "resilience": {"purgatory", "tenacity"},
    },
    "routes": {"observability": {"observability"}},
    "middleware": {
        "observability": {"observability"},
        "security": {"security"},
        "resilience": {"resilience"},
    },
    "tasks": {
        "observability": {"observability"},
        "cache": {"cache"},
        "security": {"security"},
        "resilience": {"resilience"},
    },
    "threads": {"observability": {"observability"}},
}
"""What each plugin that is on adds to the process, by kind. What is not in here, none of them may add."""


async def probe(tmp_path: Path, database_url: str, off: Collection[str]) -> dict[str, Any]:
    """What one app holds, looked at from inside a fresh interpreter."""
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, PROBE],
        env={
            "PATH": os.environ["PATH"],
            "DATA_DIR": str(tmp_path),
            "DATABASE_URL": database_url,
            "LOCAL_MODELS_ENABLED": "false",
            "WORKER_ENABLED": "false",
            **{toggle_of(name): "false" for name in off},
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("PROBE ")]
    found: dict[str, Any] = json.loads(line.removeprefix("PROBE "))
    return found


@pytest.mark.parametrize(
    "off", [(), *((name,) for name in BUILT_IN), tuple(BUILT_IN)], ids=lambda off: "-".join(off) or "none"
)
async def test_a_process_holds_what_its_plugins_bring_and_nothing_else(
    off: tuple[str, ...], tmp_path: Path, database_url: str
) -> None:
    """None off, each off, all off: of what is off there is no trace. (The database is at a Unix socket.)"""
    found = await probe(tmp_path, database_url, off)
    on = set(BUILT_IN) - set(off)
    assert set(found["modules"]) == {"contract", *on}
    for kind, brought in BRINGS.items():
        assert set(found[kind]) == {thing for name in on for thing in brought.get(name, ())}, kind
    assert ("/health/metrics" in found["paths"]) == ("observability" in on)
    assert found["connections"] == []
