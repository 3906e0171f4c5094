"""Builds the German handbook's DOCX and PDF from Markdown: `docs/de/quellen/*.md` → `docs/de/*`.

Run with `.venv/bin/python scripts/build_handbook.py`. The outputs are committed; the same sources give the same bytes
(dates come from the front matter, ZIP entries carry none).
"""

from pathlib import Path

from handbook_docx import build_docx
from handbook_pdf import build_pdf
from handbook_source import read_source

DOCS = Path(__file__).resolve().parent.parent / "docs" / "de"

if __name__ == "__main__":
    for name, build in (("handbuch-betrieb.docx", build_docx), ("leitfaden-dokumente.pdf", build_pdf)):
        data = build(read_source((DOCS / "quellen" / name).with_suffix(".md")))
        (DOCS / name).write_bytes(data)
        print(f"docs/de/{name}: {len(data):,} bytes")
