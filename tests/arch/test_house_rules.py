"""The habits that CONTRIBUTING promises, where a machine can check them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = {"src": 300, "scripts": 300, "tests": 330}
"""A test file may hold one more case; migrations are history and stay as they are."""


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))


@pytest.mark.requirement("DEL-5")
def test_ci_runs_what_the_readme_says() -> None:
    """CI runs the README's test command, and `make check` is the same."""
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make")]
    assert commands == ["make test"]
    assert re.search(r"^make test\b", (ROOT / "README.md").read_text(), flags=re.M)
    assert re.search(r"^check: test\b", (ROOT / "Makefile").read_text(), flags=re.M)


def test_every_make_command_in_the_guides_exists() -> None:
    """Guides hold commands that run."""
    guides = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    named = {(path.name, target) for path in guides for target in re.findall(r"\bmake ([a-z-]+)\b`", path.read_text())}
    assert {(name, target) for name, target in named if target not in _make_targets()} == set()
    assert len(named) > 5


def test_hooks_are_local_and_run_the_tools_of_the_venv() -> None:
    """Committing fetches nothing: each hook is one of `make lint`'s own commands, or a test."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    for hook in hooks["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")


def test_links_between_pages_lead_somewhere() -> None:
    """No page points at a file that is not there."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert dead == []


def test_files_stay_short() -> None:
    """Size follows from naming well: a file that outgrows its bound wants to be two."""
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) - bound
        for folder, bound in MAX_LINES.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {path: over for path, over in sizes.items() if over > 0} == {}
