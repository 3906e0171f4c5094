"""Looks at one living app from inside, in a fresh interpreter, and prints what it holds: run as a script by tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import plugins.contract
from app.factory import build_app

PLUGINS = Path(plugins.contract.__file__).parents[1]

LIBRARIES = ("prometheus_client", "pythonjsonlogger", "purgatory", "tenacity", "valkey", "libvalkey")
"""What only plugins use."""


def owner_of(file: str) -> str:
    """`cache` for `…/src/plugins/cache/memory.py`; empty for what no plugin owns."""
    return Path(file).relative_to(PLUGINS).parts[0] if Path(file).is_relative_to(PLUGINS) else ""


def owners(files: Iterable[str]) -> list[str]:
    return sorted({owner for file in files if (owner := owner_of(file))})


def file_of(thing: Any) -> str:
    """Of a function, a bound method or an object of a class."""
    code = getattr(getattr(thing, "__func__", thing), "__code__", None)
    return code.co_filename if code is not None else str(getattr(sys.modules[type(thing).__module__], "__file__", ""))


def connections() -> list[str]:
    """Addresses of all TCP sockets of this process, those that listen too."""
    own: set[str] = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them is closed by now
            own.add(str(descriptor.readlink()))
    found: list[str] = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if f"socket:[{columns[9]}]" in own:
                found.append(f"{columns[1]} → {columns[2]}")
    return found


async def look() -> dict[str, Any]:
    app = build_app(dict(os.environ))
    async with app.lifespan():
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        coroutines = [coroutine for task in tasks if (coroutine := task.get_coro()) is not None]
        threads = [getattr(thread, "_target", None) or thread for thread in threading.enumerate()]
        handler = app.asgi_handler
        return {
            "modules": sorted({name.split(".")[1] for name in sys.modules if name.startswith("plugins.")}),
            "libraries": [name for name in LIBRARIES if name in sys.modules],
            "routes": owners(file_of(h.fn) for route in app.routes for h in getattr(route, "route_handlers", ())),
            "paths": sorted(route.path for route in app.routes),
            "middleware": owners(file_of(middleware) for middleware in (*app.middleware, handler)),
            "tasks": owners(coroutine.cr_code.co_filename for coroutine in coroutines if hasattr(coroutine, "cr_code")),
            "threads": owners(file_of(thread) for thread in threads),
            "connections": connections(),
        }


if __name__ == "__main__":
    print("PROBE " + json.dumps(asyncio.run(look())))
