"""The docs page's library is npm's, byte by byte, with its licence; and the wheel has it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from server import ROOT

VENDORED = ROOT / "src" / "app" / "http" / "docs" / "swagger_ui"
ORIGINAL = ROOT / "node_modules" / "swagger-ui-dist"


def test_the_library_is_as_its_makers_published_it() -> None:
    """scripts/vendor_docs.sh was run after the last change of its version, and nobody edited a copy."""
    if not ORIGINAL.exists():
        pytest.skip("node_modules is missing: run `make tools`")
    pinned = json.loads((ROOT / "package.json").read_text())["devDependencies"]["swagger-ui-dist"]
    assert json.loads((ORIGINAL / "package.json").read_text())["version"] == pinned
    files = [path for path in VENDORED.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE"}
    for path in files:
        assert path.read_bytes() == (ORIGINAL / path.name).read_bytes(), path.name


def test_the_wheel_has_the_page(tmp_path: Path) -> None:
    """What is installed serves it: nothing is looked for beside the package."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    docs = ROOT / "src" / "app" / "http" / "docs"
    wanted = {str(path.relative_to(ROOT / "src")) for path in docs.rglob("*") if path.suffix not in {".pyc", ""}}
    assert wanted | {"app/http/docs/swagger_ui/LICENSE"} <= names
