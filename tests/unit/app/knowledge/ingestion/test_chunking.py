"""Chunks are exact pieces of the text, cut where the structure is cut, and none is too long for the embedder."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.knowledge.ingestion.chunking import CHUNK_TOKENS, chunk
from app.knowledge.ingestion.model import Block, Chunk, Document
from app.knowledge.ingestion.parsing import parse
from documents import samples


def words(text: str) -> int:
    """A stand-in for the embedder's count: its overhead, and a token for every begun five letters of a word."""
    return 2 + sum(1 + len(word) // 5 for word in text.split())


def check(document: Document, chunks: list[Chunk], max_tokens: int) -> None:
    position = 0
    for ordinal, piece in enumerate(chunks):
        assert piece.ordinal == ordinal
        assert piece.text == document.text[piece.start : piece.end]
        assert piece.text == piece.text.strip() != ""
        assert not document.text[position : piece.start].strip()
        assert words(piece.embedding_text()) <= max_tokens or len(piece.text) == 1
        position = piece.end
    assert not document.text[position:].strip()


@pytest.mark.parametrize("max_tokens", [16, 64, CHUNK_TOKENS])
@pytest.mark.parametrize("path", [samples.GERMAN_HANDBOOK, samples.ENGLISH_HANDBOOK, samples.WEB_PAGE])
def test_real_documents_are_covered_exactly(path: object, max_tokens: int) -> None:
    """All text is in exactly one chunk, at the offsets that it says."""
    assert hasattr(path, "read_bytes")
    document = parse(path.read_bytes(), "a.md")
    check(document, chunk(document, max_tokens=max_tokens, count_tokens=words), max_tokens)


def test_chunks_do_not_cross_main_headings_and_carry_the_breadcrumb() -> None:
    """Text of two chapters never shares a chunk; a chunk says where it stands."""
    document = parse(samples.GERMAN_HANDBOOK.read_bytes(), "a.md")
    chunks = chunk(document, max_tokens=CHUNK_TOKENS, count_tokens=words)
    for heading in (b for b in document.blocks if b.kind == "heading" and b.level <= 2):
        holder = next(c for c in chunks if c.start <= heading.start < c.end)
        before = [b for b in document.blocks if holder.start <= b.start < heading.start]
        assert all(b.kind == "heading" for b in before)
    backup = next(c for c in chunks if "1:15 Uhr" in c.text)
    assert backup.heading == "Betriebshandbuch Lagerleitstand > Datensicherung"
    assert backup.embedding_text().startswith(f"{backup.heading}\nDie Datenbank wird")


def test_small_sections_are_merged_under_their_common_heading() -> None:
    """Three one-line sub-sections are one chunk."""
    document = parse(b"# A\n\n## B\n\n### c\n\nOne.\n\n### d\n\nTwo.\n\n## E\n\nThree.\n", "a.md")
    chunks = chunk(document, max_tokens=100, count_tokens=words)
    assert [c.heading for c in chunks] == ["A > B", "A > E"]
    assert chunks[0].text == "A\n\nB\n\nc\n\nOne.\n\nd\n\nTwo."


def test_lists_stay_with_their_lead() -> None:
    """The sentence that introduces a list is in the chunk of its first item."""
    lead = "Bei einer Störung gehen Sie so vor:"
    filler = "Ein Satz, der Platz braucht und sonst nichts tut. " * 3
    source = f"# T\n\n{filler}\n\n{lead}\n\n" + "\n".join(f"{n}. Schritt Nummer {n} kommt nun." for n in range(1, 9))
    document = parse(source.encode(), "a.md")
    for max_tokens in (30, 40, 60, 80):
        chunks = chunk(document, max_tokens=max_tokens, count_tokens=words)
        check(document, chunks, max_tokens)
        assert all("1. Schritt" in c.text for c in chunks if lead in c.text)


def test_tables_are_cut_between_rows_and_repeat_the_header_in_the_breadcrumb() -> None:
    """A row is never cut while it fits; later parts still know their columns."""
    rows = "\n".join(f"| name{n} | value {n} of the table |" for n in range(40))
    document = parse(f"# T\n\n| Name | Value |\n|---|---|\n{rows}\n".encode(), "a.md")
    chunks = chunk(document, max_tokens=60, count_tokens=words)
    check(document, chunks, 60)
    assert len(chunks) > 3
    assert all(line.count(" | ") == 1 for c in chunks for line in c.text.split("\n") if line not in ("T", ""))
    assert all(c.heading == "T > Name | Value" for c in chunks[1:])


def test_long_paragraphs_are_cut_between_sentences() -> None:
    """Only a sentence that is too long by itself is cut within."""
    sentence = "Am 3. Oktober ruht, z. B. in Bonn, der Betrieb."
    document = parse(" ".join([sentence] * 30).encode(), "a.txt")
    for piece in chunk(document, max_tokens=40, count_tokens=words):
        assert piece.text.replace(sentence, "").strip() == ""


def test_text_without_any_break_is_cut_anywhere() -> None:
    """A million letters without a space, and it ends."""
    document = parse(b"a" * 1_000_000, "a.txt")
    chunks = chunk(document, max_tokens=CHUNK_TOKENS, count_tokens=words)
    assert "".join(c.text for c in chunks) == document.text


def test_unreasonable_token_counts_still_end() -> None:
    """A counter that never says "fits" yields single characters, not a loop."""
    document = Document("abc def", (Block("paragraph", 0, 0, 7),), "text")
    chunks = chunk(document, max_tokens=5, count_tokens=lambda text: 1000 * len(text))
    assert "".join(c.text for c in chunks) == "abcdef"
    with pytest.raises(ValueError, match="at least 1"):
        chunk(document, max_tokens=0, count_tokens=words)


BLOCKS = st.lists(
    st.tuples(
        st.sampled_from(["heading", "paragraph", "list_item", "table", "code"]),
        st.integers(1, 6),
        st.text(alphabet="aä. :\n|3B", min_size=1, max_size=80).filter(lambda text: text.strip() != ""),
        st.sampled_from(["\n\n", "\n", " stray "]),
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(BLOCKS, st.integers(4, 60))
def test_any_document_is_covered_by_chunks_within_the_bound(
    parts: list[tuple[str, int, str, str]], max_tokens: int
) -> None:
    """Whatever the blocks are, even with text between them: exact, complete, in order, within the bound."""
    text, blocks = "", []
    for kind, level, content, separator in parts:
        blocks.append(Block(kind, level, len(text), len(text) + len(content)))  # type: ignore[arg-type]  # sampled
        text += content + separator
    document = Document(text, tuple(blocks), "text")
    check(document, chunk(document, max_tokens=max_tokens, count_tokens=words), max_tokens)
