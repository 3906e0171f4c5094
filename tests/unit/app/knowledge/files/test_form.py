"""Forms, cut into pieces anywhere, and such as no client should send."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from litestar.exceptions import HTTPException, InternalServerException

from app.errors import InvalidRequest
from app.knowledge.files.form import MAX_PARTS, UploadForm

FORM = ("multipart/form-data", {"boundary": "x"})
PURPOSE = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
DATA = b"one\r\n--x\n--\r\ntwo\r\n-"
END = b"--x--\r\n"


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), size):
        yield body[begin : begin + size]


async def read(body: bytes, size: int = 64) -> tuple[str, str | None, bytes, str]:
    form = UploadForm(FORM, pieces(body, size))
    name, kind = await form.open()
    data = b"".join([piece async for piece in form])
    return name, kind, data, form.purpose()


@given(size=st.integers(1, 200), purpose_first=st.booleans(), data=st.binary(max_size=50) | st.just(DATA))
async def test_a_form_is_read_however_it_is_cut(size: int, purpose_first: bool, data: bytes) -> None:
    """Pieces of any size, the purpose before or after the file, bytes that look like a boundary."""
    assume(b"\r\n--x" not in b"\r\n" + data)
    file = FILE + data + b"\r\n"
    body = (PURPOSE + file if purpose_first else file + PURPOSE) + END
    assert await read(body, size) == ("a.txt", "text/plain", data, "batch")


async def test_what_is_not_asked_for_is_thrown_away() -> None:
    """Other fields and other files, of any size: tolerated under /v1, and never held."""
    other = b'--x\r\nContent-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n' + b"9" * 100_000 + b"\r\n"
    photo = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="b"\r\n\r\n' + b"y" * 100_000 + b"\r\n"
    assert (await read(other + PURPOSE + photo + FILE + b"z\r\n" + other + END))[2:] == (b"z", "batch")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (PURPOSE + END, "file"),
        (FILE.replace(b'; filename="a.txt"', b"") + b"z\r\n" + PURPOSE + END, "file"),
        (PURPOSE + FILE + b"z\r\n" + FILE + b"z\r\n" + END, "file"),
        (FILE + b"z\r\n" + END, "purpose"),
        (PURPOSE.replace(b"batch", b"fun") + FILE + b"z\r\n" + END, "purpose"),
        (PURPOSE.replace(b"batch", b"\xff") + FILE + b"z\r\n" + END, "purpose"),
        (PURPOSE.replace(b"batch", b"batch" * 100_000) + FILE + b"z\r\n" + END, "purpose"),
        (PURPOSE + FILE + b"z", None),
        (PURPOSE + FILE[:-10], None),
        (FILE.replace(b"a.txt", b"\xff\xfe") + b"z\r\n" + END, None),
        (b"", None),
        (b"no form", None),
        (PURPOSE * 2 + FILE + b"z\r\n" + END, "purpose"),
        (PURPOSE + FILE + b"z\r\n" + PURPOSE + END, "purpose"),
        (PURPOSE.replace(b"purpose", b"other") * (MAX_PARTS + 1) + FILE + b"z\r\n" + END, None),
        (FILE.replace(b"text/plain", b"x" * 10_000) + b"z\r\n" + END, None),
    ],
)
async def test_a_form_that_is_wrong_is_refused_by_field(body: bytes, param: str | None) -> None:
    """InvalidRequest, never a bug's 500: no file, two files, no or two purposes, cut off, too many parts."""
    with pytest.raises(InvalidRequest) as refused:
        await read(body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "content_type",
    [
        ("application/json", {}),
        ("", {}),
        ("multipart/form-data", {}),
        ("multipart/form-data", {"boundary": ""}),
        ("multipart/form-data", {"boundary": "a\nb"}),
    ],
)
def test_what_is_no_form_is_refused_unread(content_type: tuple[str, dict[str, str]]) -> None:
    """Another content type, or a boundary that cannot be."""
    with pytest.raises(InvalidRequest):
        UploadForm(content_type, pieces(b"", 1))


async def test_a_wrong_purpose_is_refused_before_the_file_is_read() -> None:
    """Nobody uploads 500 MB to be told about a misspelt word in front of them."""
    asked = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal asked
        for piece in (PURPOSE.replace(b"batch", b"fun"), FILE, b"z" * 10):
            asked += 1
            yield piece

    source = body()
    with pytest.raises(InvalidRequest):
        await UploadForm(FORM, source).open()
    assert asked <= 2
    await source.aclose()  # type: ignore[attr-defined]


async def test_a_client_that_leaves_is_no_error_of_ours() -> None:
    """499 in the log, as for every other call; Litestar calls it an internal error."""

    async def body() -> AsyncIterator[bytes]:
        yield PURPOSE + FILE + b"z"
        raise InternalServerException("client disconnected prematurely")

    form = UploadForm(FORM, body())
    await form.open()
    with pytest.raises(HTTPException) as left:
        assert [piece async for piece in form]
    assert left.value.status_code == 499
