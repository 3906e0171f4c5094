"""`docs/plugins.md`: the contract of plugins, with an example whose code is a tested file."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "docs/examples/greeting_plugin.py"
TEMPLATE = Path(__file__).with_suffix(".template.md")


def pages() -> dict[str, str]:
    code = (ROOT / EXAMPLE).read_text(encoding="utf-8")
    page = TEMPLATE.read_text(encoding="utf-8").replace("{{example}}", EXAMPLE).replace("{{code}}", code)
    return {"docs/plugins.md": page}
