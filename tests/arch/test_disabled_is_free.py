"""What is off is not there: no module, no route, no middleware, no task, no thread, no connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plugins.contract.discovery import BUILT_IN, toggle_of

PROBE = """
import asyncio, json, os, sys, threading
from app.factory import build_app

app = build_app(dict(os.environ))

async def look():
    async with app.lifespan():
        tasks = sorted(task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task())
        # Worker threads of pools come and go with the load; all others have an owner.
        names = [t.name for t in threading.enumerate()]
        threads = sorted(name for name in names if "asyncio" not in name and "ThreadPool" not in name)
        sockets = 0
        for number in os.listdir("/proc/self/fd"):
            try:
                sockets += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
            except FileNotFoundError:
                pass
        return {
            "modules": sorted(name for name in sys.modules if name.startswith("plugins.")),
            "routes": sorted(route.path for route in app.routes),
            "middleware": sorted(type(m).__module__ for m in app.middleware),
            "handler": getattr(app.asgi_handler, "__module__", type(app.asgi_handler).__module__),
            "tasks": [name for name in tasks if not name.startswith("Task-")],
            "n_tasks": len(tasks),
            "threads": threads,
            "sockets": sockets,
        }

print("PROBE " + json.dumps(asyncio.run(look())))
"""


def probe(tmp_path: Path, database_url: str, **env: str) -> dict[str, Any]:
    """What one app holds, looked at from inside a fresh interpreter."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={
            "PATH": os.environ["PATH"],
            "DATA_DIR": str(tmp_path),
            "DATABASE_URL": database_url,
            "ADMIN_KEY": "key-of-the-tests-0123456789abcdef",
            "LOCAL_MODELS_ENABLED": "false",
            "WORKER_ENABLED": "false",
            **env,
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


@pytest.mark.parametrize("name", BUILT_IN)
async def test_a_plugin_that_is_off_leaves_nothing_behind(name: str, tmp_path: Path, database_url: str) -> None:
    """Beside the app with everything on, one without this plugin lacks all that it brings, and holds no trace."""
    on = probe(tmp_path, database_url)
    off = probe(tmp_path, database_url, **{toggle_of(name): "false"})
    package = f"plugins.{name}"
    assert any(module.startswith(package) for module in on["modules"])
    assert [module for module in off["modules"] if module.startswith(package)] == []
    assert [owner for owner in off["middleware"] if owner.startswith(package)] == []
    assert not off["handler"].startswith(package)
    assert set(off["routes"]) <= set(on["routes"])
    assert (off["n_tasks"], off["sockets"]) <= (on["n_tasks"], on["sockets"])
    brings = {
        "observability": ("/health/metrics" in on["routes"], "/health/metrics" not in off["routes"]),
        "security": (len(on["middleware"]) > 0, len(off["middleware"]) == len(on["middleware"]) - 1),
        "cache": ("cache-clean-up" in on["tasks"], "cache-clean-up" not in off["tasks"]),
        "resilience": (True, True),  # it mounts nothing: its part is a capability, and its modules are checked above
    }[name]
    assert brings == (True, True)
    assert ("log-output" in off["threads"]) == (name != "observability")


async def test_with_all_plugins_off_only_the_contract_is_loaded(tmp_path: Path, database_url: str) -> None:
    """The contract's vocabulary is all that remains."""
    off = probe(tmp_path, database_url, **{toggle_of(name): "false" for name in BUILT_IN})
    assert {module.split(".")[1] for module in off["modules"]} == {"contract"}
    assert off["middleware"] == []
