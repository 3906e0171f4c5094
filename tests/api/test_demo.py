"""The main job, as the README's first command does it."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from server import MODELS_DIR, environment


def test_the_demo_does_the_main_job_with_its_port_taken(tmp_path: Path) -> None:
    """Documents in, cited answers out, a chain that falls back: exit code 0, plain text when piped, no process left."""
    data_dir = tmp_path / "data with space"
    env = environment(data_dir, MODELS_DIR=str(MODELS_DIR))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "demo", "--once", "--port", str(port)],
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    assert f":{port}" not in done.stdout
    assert "Not found in the documents." in done.stdout
    assert "target wattos-local · attempts 2" in done.stdout
    assert ".docx, characters" in done.stdout
    leftover = subprocess.run(["pgrep", "-f", str(data_dir)], capture_output=True, text=True)
    assert leftover.stdout == ""
