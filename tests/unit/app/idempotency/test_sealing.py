"""Sealed answers, and fingerprints of bodies as they stream."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import IdempotencyAnswerNotKept
from app.idempotency.model import Answer, Place
from app.idempotency.sealing import MARK, Secrets

SECRETS = Secrets("a secret of the tests")
PLACE = Place(UUID(int=1), b"i" * 32)
ANSWER = Answer(201, [(b"content-type", b"application/json")], b'{"key": "sk-wattos-x"}')


def form(boundary: bytes, file: bytes) -> bytes:
    head = b'\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return b"--" + boundary + head + file + b"\r\n--" + boundary + b"--\r\n"


def fingerprint(body: bytes, *, query: bytes = b"", boundary: bytes | None = None, piece_bytes: int = 1 << 16) -> bytes:
    made = SECRETS.fingerprint(query, boundary)
    for at in range(0, len(body), piece_bytes):
        made.add(body[at : at + piece_bytes])
    return made.done()


def test_an_answer_opens_where_it_was_sealed_and_nowhere_else() -> None:
    """Not at another place, not for another tenant, not with another secret, not changed."""
    sealed = SECRETS.close(PLACE, ANSWER)
    assert SECRETS.open(PLACE, sealed) == ANSWER
    assert b"sk-wattos" not in sealed
    assert SECRETS.close(PLACE, ANSWER) != sealed
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for secrets, place, text in (
        (SECRETS, Place(UUID(int=1), b"j" * 32), sealed),
        (SECRETS, Place(UUID(int=2), b"i" * 32), sealed),
        (Secrets("another"), PLACE, sealed),
        (SECRETS, PLACE, changed),
        (SECRETS, PLACE, b""),
    ):
        with pytest.raises(IdempotencyAnswerNotKept):
            secrets.open(place, text)


def test_a_fingerprint_tells_whose_secret_it_was_made_with() -> None:
    """With another one it is another, so whoever reads the database cannot try passwords against it."""
    ours = fingerprint(b"body")
    other = Secrets("another").fingerprint(b"")
    other.add(b"body")
    assert other.done() != ours
    assert SECRETS.is_ours(ours)
    assert not SECRETS.is_ours(other.done())


def test_query_and_body_make_a_fingerprint() -> None:
    """And the line between them cannot be moved: a query holds no line break."""
    found = {fingerprint(b"b", query=b"a"), fingerprint(b"ab"), fingerprint(b"b"), fingerprint(b"", query=b"a")}
    assert len(found) == 4


@given(st.binary(max_size=200), st.integers(1, 50))
def test_pieces_do_not_matter(file: bytes, piece_bytes: int) -> None:
    """However the network cuts a body, and a boundary in two."""
    for boundary in (None, b"xYz"):
        body = form(b"xYz", file)
        assert fingerprint(body, boundary=boundary, piece_bytes=piece_bytes) == fingerprint(body, boundary=boundary)


@given(st.binary(max_size=50), st.binary(max_size=50), st.integers(1, 9))
def test_a_forms_boundary_does_not_matter_and_its_content_does(one: bytes, two: bytes, piece_bytes: int) -> None:
    """Clients make a new boundary for each try. (None of these files holds either, as a form's must not.)"""
    a, b = b"AaBbCcDdEe", b"1234567890123"
    if any(boundary in file or MARK in file for boundary in (a, b) for file in (one, two)):
        return
    first = fingerprint(form(a, one), boundary=a)
    again = fingerprint(form(b, two), boundary=b, piece_bytes=piece_bytes)
    assert (first == again) is (one == two)
