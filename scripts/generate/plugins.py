"""`docs/plugins.md`: the contract of plugins, with an example whose code is a tested file."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "docs/examples/greeting_plugin.py"
TEMPLATE = Path(__file__).with_suffix(".template.md")


def pages() -> dict[str, str]:
    code = (ROOT / EXAMPLE).read_text(encoding="utf-8")
    n_lines = sum(bool(line.strip()) for line in code.splitlines())
    page = TEMPLATE.read_text(encoding="utf-8")
    for name, text in {"example": EXAMPLE, "n": str(n_lines), "code": code}.items():
        page = page.replace("{{" + name + "}}", text)
    return {"docs/plugins.md": page}
