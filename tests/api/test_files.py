"""`/v1/files` with the official client, and with input that is not as it should be."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from gateway import Gateway
from server import RunningServer, environment, running, start

MAX_FILE_BYTES = 200_000_000
UPLOAD_BYTES = 100_000_000


@pytest.fixture
def client(gateway: Gateway) -> OpenAI:
    return gateway.openai()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Path]]:
    """A server that takes files up to 100 kB, without models; and where it keeps them."""
    directory = tmp_path_factory.mktemp("files")
    env = environment(directory / "data", MAX_FILE_BYTES="100000", LOCAL_MODELS_ENABLED="false")
    with running(env, directory / "log") as server:
        yield server, directory / "data" / "files"


def upload(server: RunningServer, key: str, **request: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", **request.pop("headers", {})}  # type: ignore[dict-item]
    return httpx.post(f"{server.url}/v1/files", headers=headers, timeout=60, **request)  # type: ignore[arg-type]


def kept(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_a_file_goes_in_and_comes_out_as_it_was(client: OpenAI) -> None:
    """Upload, get, content, list, delete: as OpenAI's own client does it."""
    data = bytes(range(256)) * 100
    made = client.files.create(file=("daten ä.bin", data), purpose="user_data")
    assert (made.filename, made.bytes, made.purpose, made.object) == ("daten ä.bin", len(data), "user_data", "file")
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == data
    assert made.id in [f.id for f in client.files.list(purpose="user_data")]
    assert made.id not in [f.id for f in client.files.list(purpose="batch")]
    assert client.files.delete(made.id).deleted
    assert made.id not in [f.id for f in client.files.list()]


def test_lists_are_pages(gateway: Gateway) -> None:
    """The official client walks the cursor by itself, in both orders."""
    client = gateway.openai(gateway.server.make_key("pages"))
    made = [client.files.create(file=(f"{n}.txt", b"x"), purpose="assistants").id for n in range(5)]
    assert [f.id for f in client.files.list(limit=2, order="asc")] == made
    assert [f.id for f in client.files.list(limit=2)] == made[::-1]


def test_a_download_is_never_run_by_a_browser(gateway: Gateway, client: OpenAI) -> None:
    """What a tenant uploaded is an attachment, whatever it is."""
    made = client.files.create(file=("evil.html", b"<script>", "text/html"), purpose="assistants")
    with gateway.http() as http:
        got = http.get(f"/v1/files/{made.id}/content")
    assert got.headers["content-disposition"].startswith("attachment")
    assert got.headers["content-type"].startswith("application/octet-stream")
    assert got.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\plan.txt", "plan.txt"),
        ("a" * 400 + ".txt", "a" * 251 + ".txt"),
        ("..", "unnamed"),
    ],
)
def test_a_name_is_a_name_and_never_a_path(client: OpenAI, given: str, expected: str) -> None:
    """Its base name, at most 255 characters; files are stored by id."""
    assert client.files.create(file=(given, b"x"), purpose="assistants").filename == expected


@pytest.mark.parametrize(
    ("request_", "status", "code", "param"),
    [
        ({"files": {"file": ("a.txt", b"")}, "data": {"purpose": "assistants"}}, 400, "empty_file", "file"),
        ({"files": {"file": ("a.txt", b"x")}, "data": {"purpose": "fun"}}, 400, "invalid_request", "purpose"),
        ({"files": {"file": ("a.txt", b"x")}}, 400, "invalid_request", "purpose"),
        ({"data": {"purpose": "assistants"}}, 400, "missing_field", "file"),
        ({"files": {"file": ("a.txt", b"x")}, "data": {"purpose": b"\xff"}}, 400, "invalid_request", "purpose"),
        (
            {"files": [("file", ("a", b"x")), ("file", ("b", b"x"))], "data": {"purpose": "assistants"}},
            400,
            "invalid_request",
            "file",
        ),
        ({"json": {"purpose": "assistants"}}, 400, "missing_field", "file"),
        (
            {"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            "invalid_request",
            None,
        ),
        ({"files": {"file": ("a", b"x" * 150_000)}, "data": {"purpose": "assistants"}}, 413, "request_too_large", None),
        (
            {"files": {"file": ("a", b"x" * 5_000_000)}, "data": {"purpose": "assistants"}},
            413,
            "request_too_large",
            None,
        ),
    ],
)
def test_a_bad_upload_is_refused_and_leaves_nothing(
    small: tuple[RunningServer, Path], request_: dict[str, object], status: int, code: str, param: str | None
) -> None:
    """A clear error in OpenAI's shape; no bytes and no row stay behind."""
    server, directory = small
    key = server.make_key("bad")
    refused = upload(server, key, **dict(request_))
    assert refused.status_code == status, refused.text
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert kept(directory) == []
    listed = httpx.get(f"{server.url}/v1/files", headers={"authorization": f"Bearer {key}"}).json()
    assert listed["data"] == []


def test_an_upload_without_a_length_stops_at_the_limit(small: tuple[RunningServer, Path]) -> None:
    """A chunked body says nothing of its size: it is counted."""
    server, directory = small
    key = server.make_key("chunked")

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield b"y" * 100_000
        yield b"\r\n--x--\r\n"

    try:
        refused = upload(server, key, content=body(), headers={"content-type": "multipart/form-data; boundary=x"})
    except httpx.WriteError:
        pass  # answered and closed while we were still sending
    else:
        assert refused.status_code == 413
    assert kept(directory) == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing(small: tuple[RunningServer, Path]) -> None:
    """No bytes, no row, and no error of ours in the log: the request is one that its client closed."""
    server, directory = small
    key = server.make_key("leaver")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(half_an_upload(key, 50_000))
    wait_for(lambda: '"statusCode":499' in server.log.read_text())
    assert '"level":50' not in server.logged()
    assert kept(directory) == []


def test_a_server_killed_in_the_middle_of_an_upload_has_no_row_without_bytes(tmp_path: Path) -> None:
    """What was answered before is there after the restart; what was under way is not."""
    env = environment(tmp_path / "data", LOCAL_MODELS_ENABLED="false")
    server = start(env, tmp_path / "log")
    try:
        server.wait_until_ready()
        key = server.make_key("killed")
        headers = {"authorization": f"Bearer {key}"}
        sent = {"files": {"file": ("done.txt", b"done")}, "data": {"purpose": "assistants"}}
        done = upload(server, key, **sent).raise_for_status().json()["id"]
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(half_an_upload(key, 20_000_000))
            wait_for(lambda: any("#" in path.name for path in kept(tmp_path / "data" / "files")))
            server.process.kill()
            server.process.wait()
    finally:
        server.stop()
    with running(env, tmp_path / "log") as again, httpx.Client(base_url=again.url, headers=headers) as client:
        assert [file["id"] for file in client.get("/v1/files").json()["data"]] == [done]
        assert client.get(f"/v1/files/{done}/content").content == b"done"


def test_a_large_upload_does_not_fill_the_memory(tmp_path: Path) -> None:
    """100 MB go through in pieces, as a file and as a field: the process grows by far less."""
    env = environment(tmp_path / "data", MAX_FILE_BYTES=str(MAX_FILE_BYTES), LOCAL_MODELS_ENABLED="false")
    with running(env, tmp_path / "log") as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key=server.make_key("large"), max_retries=0)
        client.files.create(file=("warm.txt", b"x"), purpose="assistants")
        peak_before = peak_mb(server)
        made = client.files.create(file=("large.bin", b"z" * UPLOAD_BYTES), purpose="assistants")
        assert made.bytes == UPLOAD_BYTES
        huge = {"files": {"file": ("a", b"x")}, "data": {"purpose": b"x" * UPLOAD_BYTES}}
        assert upload(server, client.api_key, **huge).status_code == 400
        assert peak_mb(server) - peak_before < 40


def half_an_upload(key: str, n_bytes: int) -> bytes:
    """The beginning of a request that promises more than it sends."""
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {2 * n_bytes}\r\n"
    form = 'content-type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; name="file";'
    return f'{head}{form} filename="a"\r\n\r\n'.encode() + b"z" * n_bytes


def wait_for(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def peak_mb(server: RunningServer) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [row for row in status.splitlines() if row.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
