"""`/schema`: the page works offline, and the server says what browsers and probes need to know."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest

from gateway import Gateway


class Page(HTMLParser):
    """What a page loads, and what is written into it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: dict[str, str | None] = {}
        """Address → integrity."""
        self.inline: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        address = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        if address and not address.startswith("data:"):
            self.loads[address] = attributes.get("integrity")
        self.inline += [name for name in attributes if name.startswith("on") or name == "style"]
        self.inline += [tag] if tag == "style" or (tag == "script" and not attributes.get("src")) else []


@pytest.fixture(scope="module")
def http(shared_gateway: Gateway) -> Iterator[httpx.Client]:
    """Nobody in particular: it is all public."""
    with httpx.Client(base_url=shared_gateway.server.url) as client:
        yield client


def test_the_page_loads_nothing_from_elsewhere(http: httpx.Client) -> None:
    """Every address is a path of this server, answers, and is what the page's integrity attribute says."""
    page = Page(http.get("/schema").raise_for_status().text)
    assert {address.rpartition("/")[2] for address in page.loads} == {
        "swagger-ui.css",
        "swagger-ui-bundle.js",
        "page.js",
    }
    for address, integrity in page.loads.items():
        assert address.startswith("/schema/assets/")
        answer = http.get(address).raise_for_status()
        digest = base64.b64encode(hashlib.sha384(answer.content).digest()).decode()
        assert integrity == f"sha384-{digest}"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        kind = "text/css" if address.endswith(".css") else "text/javascript"
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"


def test_the_styles_load_nothing_from_elsewhere(http: httpx.Client) -> None:
    """No import, and no url but data."""
    [address] = [address for address in Page(http.get("/schema").text).loads if address.endswith(".css")]
    css = http.get(address).text
    assert "@import" not in css
    assert all(url.startswith("data:") for url in re.findall(r"url\(\s*['\"]?([^)'\"]*)", css))


def test_the_policy_allows_this_server_alone(http: httpx.Client) -> None:
    """The browser would stop any script or address that slipped in: nothing inline is allowed, and nothing is there."""
    answer = http.get("/schema")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "http" not in answer.headers["content-security-policy"]
    assert Page(answer.text).inline == []
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_document_is_fetched_anew_only_when_it_changed(http: httpx.Client) -> None:
    """The page names it; with its etag the answer is 304 without a body."""
    page = http.get("/schema").text
    assert 'data-document="/schema/openapi.json"' in page
    first = http.get("/schema/openapi.json").raise_for_status()
    assert first.json()["info"]["title"] == "WattOS"
    again = http.get("/schema/openapi.json", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_what_is_not_there_is_a_problem(http: httpx.Client) -> None:
    """An old address of an asset, and any other path below."""
    for path in ("/schema/assets/0123456789abcdef/page.js", "/schema/assets/x/etc%2Fpasswd", "/schema/nothing"):
        answer = http.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.requirement("OBS-5")
@pytest.mark.parametrize("path", ["/health/liveness", "/schema", "/schema/openapi.json", "/v1/models", "/nothing"])
def test_head_is_answered_as_get_without_a_body(http: httpx.Client, path: str) -> None:
    """Load balancers ask so. Status and headers are GET's; the connection goes on."""
    head, get = http.head(path), http.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == str(len(get.content))
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_of_a_download_holds_no_bytes(gateway: Gateway) -> None:
    """A stream, too: its length is told, its bytes stay."""
    with gateway.http() as client:
        form = {"file": ("a.bin", bytes(200_000))}
        made = client.post("/v1/files", files=form, data={"purpose": "assistants"}).raise_for_status().json()
        head = client.head(f"/v1/files/{made['id']}/content")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "200000")
        assert len(client.get(f"/v1/files/{made['id']}/content").content) == 200_000


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("OPTIONS", "/v1/files", 204, "GET, HEAD, OPTIONS, POST"),
        ("OPTIONS", "/v1/files/file_1", 204, "DELETE, GET, HEAD, OPTIONS"),
        ("PUT", "/v1/files", 405, "GET, HEAD, OPTIONS, POST"),
        ("HEAD", "/v1/embeddings", 405, "OPTIONS, POST"),
    ],
)
def test_allow_names_every_method(gateway: Gateway, method: str, path: str, status: int, allow: str) -> None:
    """Where a path has several handlers, those of all."""
    with gateway.http() as client:
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (status, allow)
