"""What may be installed: exact versions, hashes, and never a malicious release."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FILES = ["requirements.txt", "requirements-dev.txt", "requirements-build.txt"]


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    """pip refuses what is not in these files: an exact version and a hash for each."""
    text = (ROOT / name).read_text()
    entries = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", text, flags=re.M | re.S | re.I)
    assert len(entries) > (3 if name == "requirements-build.txt" else 50)
    for entry in entries:
        assert re.match(r"[\w.\-\[\],]+==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


@pytest.mark.parametrize("name", FILES)
def test_requirement_files_name_no_registry(name: str) -> None:
    """The tree holds no download addresses."""
    assert not re.search(r"https?://|--(extra-)?index-url", (ROOT / name).read_text())
    assert not (ROOT / "uv.lock").exists()


def test_litellm_is_pinned_and_its_malicious_releases_are_excluded() -> None:
    """1.82.7, 1.82.8 and 1.107.* must be impossible to install: an exact pin, a hash, and a constraint on top."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = [r for r in map(Requirement, project["project"]["dependencies"]) if r.name == "litellm"]
    assert [str(r.specifier) for r in pins] == ["==1.106.2"]
    (constraint,) = map(Requirement, project["tool"]["uv"]["constraint-dependencies"])
    for version in ("1.82.7", "1.82.8", "1.107.0", "1.107.3"):
        assert not constraint.specifier.contains(version)
    for name in FILES[:2]:
        assert re.findall(r"^litellm==(\S+)", (ROOT / name).read_text(), flags=re.M) == ["1.106.2"]
