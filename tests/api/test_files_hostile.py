"""Uploads that mean harm, or meet it: every refusal has its stable code, and neither bytes nor rows nor notes stay."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from postgres import Cluster
from server import RunningServer, environment, running

FORM = "multipart/form-data; boundary=x"
PURPOSE = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
END = b"\r\n--x--\r\n"
BODY_TIMEOUT_S = 1
DEADLINE_S = 10.0


class Store:
    """A server without models, a tenant's client, and what is kept of all uploads."""

    def __init__(self, server: RunningServer, url: str, objects: Path) -> None:
        self.server = server
        self.url = url
        self.objects = objects
        self.key = server.make_key("uploads")
        self.http = httpx.Client(
            base_url=server.url, headers={"authorization": f"Bearer {self.key}", "content-type": FORM}, timeout=30
        )

    def post(self, content: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
        return self.http.post("/v1/files", content=content, headers=headers)

    def begin(self, n_bytes: int, *, promised: int | None = None) -> socket.socket:
        """An upload that promises more than these bytes of its file."""
        promised = 2 * n_bytes + 1000 if promised is None else promised
        lines = ("POST /v1/files HTTP/1.1", "host: x", f"authorization: Bearer {self.key}", f"content-type: {FORM}")
        head = "\r\n".join([*lines, f"content-length: {promised}", "", ""])
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE_S)
        connection.sendall(head.encode() + PURPOSE + file_part(b'filename="a.bin"') + b"z" * n_bytes)
        return connection

    def left(self) -> tuple[int, int, int]:
        """Objects whole or half, rows of files, and notes of bytes without a file."""
        with psycopg.connect(self.url) as connection:
            counted = connection.execute("select (select count(*) from files), (select count(*) from loose_objects)")
            n_files, n_notes = counted.fetchone() or (0, 0)
        return sum(path.is_file() for path in self.objects.rglob("*")), n_files, n_notes


@pytest.fixture(scope="module")
async def uploads_url(cluster: Cluster) -> str:
    return await cluster.create_database()


@pytest.fixture(scope="module")
async def opened(uploads_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    folder = tmp_path_factory.mktemp("uploads")
    env = environment(
        folder / "data",
        DATABASE_URL=uploads_url,
        LOCAL_MODELS_ENABLED="false",
        REQUEST_BODY_TIMEOUT_S=str(BODY_TIMEOUT_S),
    )
    with running(env, folder / "log") as server:
        made = Store(server, uploads_url, folder / "data" / "files")
        yield made
        made.http.close()


@pytest.fixture
def store(opened: Store) -> Iterator[Store]:
    """Nothing is kept before and after each test."""
    assert opened.left() == (0, 0, 0)
    yield opened
    eventually(lambda: opened.left() == (0, 0, 0))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def file_part(head: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="file"; ' + head + b"\r\n\r\n"


def form(head: bytes, data: bytes = b"data") -> bytes:
    return PURPOSE + file_part(head) + data + END


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b'filename="/etc/passwd"', "passwd"),
        (b'filename="..\\\\..\\\\windows\\\\win.ini"', "win.ini"),
        (b'filename="....//....//etc/passwd"', "passwd"),
        (b'filename="%2e%2e%2fetc%2fpasswd"', "%2e%2e%2fetc%2fpasswd"),
        (b'filename="a%00.txt"', "a%00.txt"),
        (b'filename="a%0d%0aset-cookie: x.txt"', "a%0d%0aset-cookie: x.txt"),
        (b'filename="..."', "unnamed"),
        (b'filename="   "', "unnamed"),
        (b"filename=\"b.md\"; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd", "b.md"),
        (b"filename*=UTF-8''%FF%00; filename=\"b.md\"", "b.md"),
        (b'filename="' + b"a" * 3000 + b'.md"', "a" * 252 + ".md"),
    ],
)
def test_name_can_lead_nowhere(store: Store, head: bytes, name: str) -> None:
    """Paths of every spelling: a harmless base name, never decoded twice. `filename*` is no part of a form (RFC 7578,
    §4.2), and counts for nothing.
    """
    answer = store.post(form(head))
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made["filename"] == name
    assert not set(made["filename"]) & set("/\\\0\r\n\u202e")
    (path,) = [path for path in store.objects.rglob("*") if path.is_file()]
    assert path.name == made["id"].removeprefix("file_")
    assert path.parent.parent == store.objects
    assert store.http.get(f"/v1/files/{made['id']}/content").content == b"data"
    assert store.http.delete(f"/v1/files/{made['id']}").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        PURPOSE * 10_000,
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 10_000 + form(b'filename="a"'),
        PURPOSE + PURPOSE + file_part(b'filename="a"') + b"data" + END,
        PURPOSE + file_part(b'filename="a"') + b"data\r\n" + PURPOSE + b"--x--\r\n",
        PURPOSE + 2 * (file_part(b'filename="a"') + b"data\r\n") + b"--x--\r\n",
        form(b"filename*=UTF-8''..%2F..%2Fetc%2Fpasswd"),
        form(b'filename="' + b"a" * 10_000 + b'.md"'),
        PURPOSE + b"--x\r\nContent-Disposition: " + b"a" * 2_000_000,
        PURPOSE + b"--x\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        PURPOSE + b"--x\r\nContent-Length: 99999999999999999999\r\n" + file_part(b'filename="a"')[5:] + b"data" + END,
        PURPOSE + file_part(b'filename="a"\r\nContent-Transfer-Encoding: base64') + b"data" + END[:-4],
        PURPOSE + file_part(b'filename="a"') + b"z" * 1_000_000,
        PURPOSE + file_part(b'filename="a"') + b"z" * 1_000_000 + b"\r\n--x",
        PURPOSE + b'--x\r\nContent-Disposition: attachment; name="file"; filename="a"\r\n\r\ndata' + END,
        b"\r\n" * 500_000 + form(b'filename="a"')[:-8],
    ],
    ids=[
        "10,000 purposes",
        "10,000 parts",
        "two purposes",
        "a purpose before and after",
        "two files",
        "name of RFC 5987",
        "name of 10 kB",
        "header of 2 MB",
        "1,000 headers",
        "length of its own",
        "transfer encoding",
        "never closed",
        "closed by half",
        "no form-data",
        "preamble",
    ],
)
def test_form_made_to_hurt_is_refused(store: Store, body: bytes) -> None:
    """400 with a stable code, at once; whatever of the file was written is removed."""
    begun = time.monotonic()
    refused = store.post(body)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["code"] in {"invalid_request", "missing_field"}
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "boundary",
    ["", "a" * 500, '"a b"', "ä", "x; boundary=y"],
    ids=["none", "long", "blank", "umlaut", "two"],
)
def test_boundary_made_to_hurt_is_refused(store: Store, boundary: str) -> None:
    """One that no part has, or that may not be."""
    refused = store.http.post(
        "/v1/files",
        content=form(b'filename="a"'),
        headers={"content-type": f"multipart/form-data; boundary={boundary}".encode()},
    )
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["code"] in {"invalid_request", "missing_field"}


def test_form_within_a_form_is_only_bytes(store: Store) -> None:
    """A part that says it is multipart itself is kept as it came, never opened."""
    inner = b'--y\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--y--\r\n'
    made = store.post(form(b'filename="a"\r\nContent-Type: multipart/mixed; boundary=y', inner)).json()
    assert made["purpose"] == "assistants"
    assert store.http.get(f"/v1/files/{made['id']}/content").content == inner
    store.http.delete(f"/v1/files/{made['id']}")


def test_file_that_says_it_is_too_large_is_refused_unread(store: Store) -> None:
    """413 from its `Content-Length` alone: not a byte of the body is waited for."""
    with store.begin(0, promised=1 << 40) as connection:
        answer = connection.makefile("rb").read()
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert b"request_too_large" in answer


@pytest.mark.parametrize("n_bytes", [100, 8_000_000])
@pytest.mark.parametrize("is_reset", [False, True])
def test_upload_broken_off_leaves_nothing(store: Store, n_bytes: int, is_reset: bool) -> None:
    """The client closes, or its machine is gone: before the first write to the disk or after some."""
    connection = store.begin(n_bytes)
    if n_bytes > 100:
        eventually(lambda: store.left()[0] == 1)
    eventually(lambda: store.left()[2] == 1)
    if is_reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    eventually(lambda: store.left() == (0, 0, 0))


def test_upload_that_stops_is_timed_out_and_leaves_nothing(store: Store) -> None:
    """408 after REQUEST_BODY_TIMEOUT_S without progress."""
    with store.begin(6_000_000) as connection:
        eventually(lambda: store.left()[0] == 1)
        assert b"408" in connection.recv(4096).split(b"\r\n")[0]
    eventually(lambda: store.left() == (0, 0, 0))


@contextlib.contextmanager
def no_room(server: RunningServer, n_bytes: int) -> Iterator[None]:
    """The server's files may not grow beyond this: to it, the disk is full."""
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("n_bytes", [3_000_000, 30_000_000])
def test_full_disk_is_told_as_such_and_leaves_nothing(store: Store, n_bytes: int) -> None:
    """507 `storage_full`, whether it shows at the first write or in the middle; when there is room, it works again."""
    body = form(b'filename="a.bin"', b"z" * n_bytes)
    with no_room(store.server, 2_000_000):
        refused = store.post(body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_full"), refused.text
        eventually(lambda: store.left() == (0, 0, 0))
    made = store.post(body).raise_for_status().json()
    assert made["bytes"] == n_bytes
    store.http.delete(f"/v1/files/{made['id']}")


def test_place_that_cannot_be_written_is_unavailable(store: Store) -> None:
    """503 `storage_unavailable`, without a path in its message; and it works again when the place is mended."""
    made = store.post(form(b'filename="a"')).raise_for_status().json()
    (path,) = [path for path in store.objects.rglob("*") if path.is_file()]
    store.http.delete(f"/v1/files/{made['id']}")
    path.parent.rmdir()
    path.parent.write_bytes(b"")
    refused = store.post(form(b'filename="a"'))
    path.parent.unlink()
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (503, "storage_unavailable"), refused.text
    assert str(store.objects) not in error["message"]
    assert store.left()[1] == 0
    again = store.post(form(b'filename="a"')).raise_for_status().json()
    store.http.delete(f"/v1/files/{again['id']}")
    with psycopg.connect(store.url) as connection:
        connection.execute("delete from loose_objects")  # the sweep's, when it is due


def test_killed_server_leaves_nothing_of_an_upload(database_url: str, tmp_path: Path) -> None:
    """kill -9 in mid-upload: no row; and when the note is due, the next start sweeps up what was written."""
    env = environment(tmp_path / "data", DATABASE_URL=database_url, LOCAL_MODELS_ENABLED="false")
    with running(env, tmp_path / "log") as server:
        store = Store(server, database_url, tmp_path / "data" / "files")
        with store.begin(12_000_000):
            eventually(lambda: store.left() == (1, 0, 1))
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
        store.http.close()
    assert store.left() == (1, 0, 1)
    with psycopg.connect(database_url) as connection:
        connection.execute("update loose_objects set due_at = now()")
    with running(env, tmp_path / "log"):
        eventually(lambda: store.left() == (0, 0, 0))
