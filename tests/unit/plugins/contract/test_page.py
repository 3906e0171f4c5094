"""`docs/plugins.md` keeps its promises."""

from __future__ import annotations

import ast

import msgspec
import pytest

from plugins.contract.capabilities import Capabilities
from plugins.contract.discovery import BUILT_IN
from server import ROOT

PAGE = (ROOT / "docs" / "plugins.md").read_text()
EXAMPLE = (ROOT / "docs" / "examples" / "greeting_plugin.py").read_text()


def test_a_plugin_takes_forty_lines() -> None:
    """The page shows the tested file word for word, and it is short."""
    assert f"```python\n{EXAMPLE}```" in PAGE
    assert sum(bool(line.strip()) for line in EXAMPLE.splitlines()) <= 40


def test_a_plugin_needs_the_contract_alone() -> None:
    """Nothing of the app, no other plugin: as the page says."""
    imported = [node.module or "" for node in ast.walk(ast.parse(EXAMPLE)) if isinstance(node, ast.ImportFrom)]
    ours = [module for module in imported if module.split(".")[0] in {"app", "plugins"}]
    assert ours
    assert all(module.startswith("plugins.contract.") for module in ours)


@pytest.mark.parametrize("capability", [field.name for field in msgspec.structs.fields(Capabilities)])
def test_every_capability_is_in_the_table(capability: str) -> None:
    """What there is to give and to take."""
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{capability}` |") and line.count("|") == 4]
    assert len(rows) == 1


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_plugin_is_in_the_table(name: str) -> None:
    """What it does on, off, and when its backend fails: three cells, none empty."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` | ") and line.count("|") == 5]
    assert all(cell.strip() for cell in row.strip("|").split("|"))
