"""Uploads written by hand: names that no client library would let through, and bodies without a length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server import RunningServer, environment, running

MAX_FILE_BYTES = 100_000
PURPOSE = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
FORM = "multipart/form-data; boundary=x"


class Store:
    """A server without models that takes files up to 100 kB, a tenant's client, and where the bytes are."""

    def __init__(self, server: RunningServer, directory: Path) -> None:
        self.http = httpx.Client(
            base_url=server.url, headers={"authorization": f"Bearer {server.make_key('forms')}"}, timeout=30
        )
        self._directory = directory

    def post(self, content: bytes | Iterator[bytes], content_type: str = FORM) -> httpx.Response:
        return self.http.post("/v1/files", content=content, headers={"content-type": content_type})

    def kept(self) -> list[Path]:
        return [path for path in self._directory.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    directory = tmp_path_factory.mktemp("forms")
    env = environment(directory / "data", MAX_FILE_BYTES=str(MAX_FILE_BYTES), LOCAL_MODELS_ENABLED="false")
    with running(env, directory / "log") as server:
        made = Store(server, directory / "data" / "files")
        yield made
        made.http.close()


def form(head: bytes, data: bytes = b"data") -> bytes:
    return (
        PURPOSE + b'--x\r\nContent-Disposition: form-data; name="file"; ' + head + b"\r\n\r\n" + data + b"\r\n--x--\r\n"
    )


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b'filename="a\x00b.txt"', "ab.txt"),
        (b'filename="a\x01\x1b\x7fb.txt"', "ab.txt"),
        (b'filename="a\tb.txt"', "ab.txt"),
        ('filename="übung\u202etxt.exe"'.encode(), "übungtxt.exe"),
        (b'filename="../../../etc/passwd"', "passwd"),
        (b'filename="/etc/passwd"', "passwd"),
        (b'filename=".."', "unnamed"),
        (b'filename=""', "unnamed"),
        (b'filename="a.txt"\r\nContent-Type: text/\x00plain', "a.txt"),
        (b'filename="a.txt"\r\nContent-Type: text/' + b"x" * 3000, "a.txt"),
    ],
)
def test_name_and_type_can_be_stored_and_shown(store: Store, head: bytes, name: str) -> None:
    """NUL, control and direction characters, paths, endless types: the bytes are kept, the label is made harmless."""
    answer = store.post(form(head))
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made["filename"] == name
    got = store.http.get(f"/v1/files/{made['id']}/content")
    assert got.content == b"data"
    assert "\n" not in got.headers["content-disposition"]
    (path,) = store.kept()
    assert path.name == made["id"].removeprefix("file_"), "stored by id, whatever the name"
    assert store.http.delete(f"/v1/files/{made['id']}").json()["deleted"]
    assert store.kept() == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(b'filename="\xff.txt"'), FORM),
        (form(b'filename="a"'), "multipart/form-data"),
        (form(b'filename="a"'), "multipart/form-data; boundary=y"),
        (form(b'filename="a"'), "multipart/form-data; boundary="),
        (form(b'filename="a"')[:-8], FORM),
        (form(b'filename="a"')[:90], FORM),
        (form(b'filename="a"'), "text/plain"),
        (form(b'filename="a"'), "application/x-www-form-urlencoded"),
        (b"", FORM),
        (b"\x00" * 1000, FORM),
        (form(b""), FORM),
    ],
)
def test_form_that_is_none_is_refused_and_leaves_nothing(store: Store, body: bytes, content_type: str) -> None:
    """Cut off, another boundary or none, no form at all, a name in no encoding: 400, and no bytes stay."""
    refused = store.post(body, content_type)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["code"] in {"invalid_request", "missing_field"}
    assert store.kept() == []
    assert store.http.get("/v1/files").json()["data"] == []


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize(("n_bytes", "status"), [(MAX_FILE_BYTES, 200), (MAX_FILE_BYTES + 1, 413), (300_000, 413)])
def test_limit_holds_to_the_byte_with_a_length_and_without(
    store: Store, n_bytes: int, status: int, is_chunked: bool
) -> None:
    """MAX_FILE_BYTES is allowed, one more is not; the refusal names the setting, and nothing of it stays."""
    body = form(b'filename="a"', b"z" * n_bytes)
    pieces = (body[begin : begin + 50_000] for begin in range(0, len(body), 50_000))
    answer = store.post(pieces if is_chunked else body)
    assert answer.status_code == status, answer.text
    assert ("content-length" in answer.request.headers) is not is_chunked
    if status == 200:
        assert answer.json()["bytes"] == n_bytes
        store.http.delete(f"/v1/files/{answer.json()['id']}")
    else:
        error = answer.json()["error"]
        assert error["code"] == "request_too_large"
        assert "MAX_FILE_BYTES" in error["message"]
    assert store.kept() == []
