"""Writes every generated page anew: `make docs`. `tests/arch/test_generated_docs.py` fails when one is out of date."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import scripts.generate

ROOT = Path(__file__).resolve().parents[2]


def all_pages() -> dict[str, str]:
    """Path relative to the repository's root → text, of every generator."""
    pages: dict[str, str] = {}
    for found in pkgutil.iter_modules(scripts.generate.__path__):
        if not found.name.startswith("_"):
            module = importlib.import_module(f"scripts.generate.{found.name}")
            pages |= module.pages()
    return pages


if __name__ == "__main__":
    for path, text in all_pages().items():
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)
