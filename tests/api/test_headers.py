"""What every answer says to browsers, who may call from one, and what a forged header changes: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway import Gateway, running_gateway

pytestmark = pytest.mark.requirement("SEC-2")

ORIGIN = "https://chat.example.org"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/v1/models"), ("GET", "/nowhere"), ("PUT", "/v1/models"), ("GET", "/health"), ("GET", "/plugins")),
        *(
            ("POST", "/v1/chat/completions"),
            ("POST", "/api/v1/auth/login"),
            ("HEAD", "/health"),
            ("GET", "/health/metrics"),
        ),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_every_answer_is_safe_in_a_browser(gateway: Gateway, method: str, path: str, is_known: bool) -> None:
    """Successes and errors, with a credential and without: nothing is sniffed, framed, run or kept."""
    with gateway.http() as client:
        headers = {} if is_known else {"authorization": ""}
        answer = client.request(method, path, headers=headers)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] in ("no-store", "no-cache")
    assert "strict-transport-security" not in answer.headers, "it came over plain HTTP"
    assert "server" not in answer.headers


def test_the_page_keeps_its_own_policy(gateway: Gateway) -> None:
    """The documentation runs its own scripts, and none but those."""
    page = httpx.get(f"{gateway.server.url}/schema")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert len(page.headers.get_list("content-security-policy")) == 1


def test_no_other_site_may_call_by_default(gateway: Gateway) -> None:
    """Neither asks a browser's preflight in vain, nor is an answer readable to it."""
    asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
    preflight = httpx.options(f"{gateway.server.url}/v1/chat/completions", headers=asked)
    assert not [name for name in preflight.headers if name.startswith("access-control-")]
    with gateway.http() as client:
        answer = client.get("/v1/models", headers={"origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("proxied")
    env = {"LOCAL_MODELS_ENABLED": "false", "CORS_ALLOWED_ORIGINS": ORIGIN, "TRUSTED_PROXIES": "127.0.0.1"}
    with running_gateway(directory, env) as gateway:
        yield gateway


def test_a_named_site_may_call(proxied: Gateway) -> None:
    """It alone, and without cookies."""
    asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
    preflight = httpx.options(f"{proxied.server.url}/v1/chat/completions", headers=asked)
    assert preflight.status_code < 300
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    with proxied.http() as client:
        answer = client.get("/v1/models", headers={"origin": ORIGIN})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in answer.headers
        other = client.get("/v1/models", headers={"origin": "https://evil.example"})
        assert other.headers.get("access-control-allow-origin") != "https://evil.example"


def test_a_trusted_proxy_says_where_and_how(proxied: Gateway) -> None:
    """Its `x-forwarded-for` is the address, its `x-forwarded-proto` the scheme; what a client put in front is not."""
    forwarded = {"x-forwarded-for": "198.51.100.9, 203.0.113.7", "x-forwarded-proto": "https"}
    wrong = {"tenant": "nowhere", "email": "x@y.example", "password": "x"}
    answer = httpx.post(f"{proxied.server.url}/api/v1/auth/login", json=wrong, headers=forwarded)
    assert "max-age" in answer.headers["strict-transport-security"]
    with proxied.server.admin() as api:
        (event, *_) = api.get("/api/v1/audit-events").json()["data"]
    assert event["address"] == "203.0.113.7"


@pytest.mark.parametrize(
    "id_", ["7f\t3a", "x" * 500, "7f 3a", '"}{"level":60', "ä", "../../etc/passwd", "$(reboot)", "<script>", "%0d%0a"]
)
def test_a_request_id_is_ours_unless_it_is_plain(gateway: Gateway, id_: str) -> None:
    """It stands in answers and in the log: what could break out of either is replaced."""
    url = f"{gateway.server.url}/health/liveness"
    answer = httpx.get(url, headers=[(b"x-request-id", id_.encode("latin-1", "ignore"))])
    assert answer.headers["x-request-id"] != id_
    assert id_ not in gateway.server.logged()
