"""What the demo reads and asks: this project's own guides, and the German handbook."""

from __future__ import annotations

from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[3]

MEDIA_TYPES = {
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """`expects`: words that a right answer quotes; none: the documents do not say, and the answer must say so."""

    text: str
    expects: tuple[str, ...] = ()
    cited_in: str = ""


QUESTIONS = (
    Question(
        text="What does the chain do when the first target fails?",
        expects=("next",),
    ),
    Question(
        text="Wie lange werden laufende Streams nach SIGTERM noch zu Ende geführt?",
        expects=("SHUTDOWN_GRACE_S",),
    ),
    Question(text="What is the price of a monthly train ticket in Vienna?"),
)


GUIDES = ("README.md", "docs/ARCHITECTURE_OVERVIEW.md", "docs/HEALTH.md", "docs/KNOWLEDGE.md")
"""Few enough to be read within 15 s on two cores: about five passages a second."""


def demo_documents() -> list[Path]:
    """Some guides in English and the handbook in German, in a fixed order; Markdown, PDF and DOCX among them."""
    english = [ROOT / guide for guide in GUIDES]
    german = [p for p in sorted((ROOT / "docs" / "de").iterdir()) if p.suffix in MEDIA_TYPES]
    return [p for p in english + german if p.is_file()]
