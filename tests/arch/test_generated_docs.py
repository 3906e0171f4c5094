"""The generated pages say what the code says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_generated_page_is_up_to_date() -> None:
    """Settings, errors, metrics and readiness are true, or `make docs` was forgotten."""
    code = "import json; from scripts.generate.__main__ import all_pages; print(json.dumps(all_pages()))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )

    pages: dict[str, str] = json.loads(run.stdout)
    stale = [path for path, text in pages.items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    assert pages
    assert stale == [], "run `make docs`"
