"""Every refusal has the shape of its path, a stable code and a request id; none is a 500."""

from __future__ import annotations

import httpx
import pytest

from gateway import Gateway

DEEP = b'{"model": "chat", "messages": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("PUT", "/v1/files", 405, "method_not_allowed"),
        ("GET", "/nothing", 404, "not_found"),
        ("DELETE", "/health", 405, "method_not_allowed"),
        ("GET", "/api/v1/nothing", 404, "not_found"),
    ],
)
def test_what_no_route_takes_has_the_shape_of_its_path(
    gateway: Gateway, method: str, path: str, status: int, code: str
) -> None:
    """OpenAI's shape under /v1, RFC 9457 elsewhere; with a request id, and without any credential."""
    answer = httpx.request(method, f"{gateway.server.url}{path}", headers={"x-request-id": "my-id.1"})
    assert answer.status_code == status
    assert answer.headers["x-request-id"] == "my-id.1"
    if path.startswith("/v1/"):
        assert answer.json()["error"]["code"] == code
        assert set(answer.json()["error"]) == {"message", "type", "code", "param"}
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == code


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/vector_stores"])
@pytest.mark.parametrize(
    "body", [b"{", b"", b"[]", b'"x"', b'{"model": "\xff"}', DEEP, b'{"name": "a\\u0000b", "model": "a\\u0000b"}']
)
def test_a_body_that_is_no_request_is_a_clear_400(gateway: Gateway, path: str, body: bytes) -> None:
    """Malformed, of the wrong type, not UTF-8, 20,000 levels deep, with NUL: never a 500."""
    with gateway.http() as client:
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
    if (path, body) == ("/v1/vector_stores", b""):
        assert answer.status_code == 200  # OpenAI's client sends no body for a store without a name
        return
    assert answer.status_code in {400, 404}, answer.text
    assert answer.json()["error"]["code"] in {
        "invalid_json",
        "invalid_request",
        "missing_field",
        "invalid_character",
        "model_not_found",
    }


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=abc", "order=up", "after=file_x", "purpose=%00"])
def test_a_query_parameter_that_cannot_be_is_refused(gateway: Gateway, query: str) -> None:
    """Bounds and kinds are checked, a cursor that names nothing is not found, NUL reaches no database."""
    with gateway.http() as client:
        answer = client.get(f"/v1/files?{query}")
    assert answer.status_code == {"after": 404, "purpose": 422}.get(query.partition("=")[0], 400), answer.text


def test_a_body_over_the_limit_is_refused(gateway: Gateway) -> None:
    """MAX_BODY_BYTES is 10 MiB unless set."""
    with gateway.http() as client:
        answer = client.post("/v1/chat/completions", content=b'{"model": "' + b"x" * (11 << 20) + b'"}')
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_health_and_metrics_are_public_and_say_nothing_secret(gateway: Gateway) -> None:
    """Probes have no key; scrapes neither."""
    url = gateway.server.url
    assert httpx.get(f"{url}/health/liveness").json() == {"status": "healthy"}
    assert httpx.get(f"{url}/health/readiness").status_code == 200
    health = httpx.get(f"{url}/health")
    assert {"postgres", "local model", "embedder"} <= {c["name"] for c in health.json()["checks"]}
    metrics = httpx.get(f"{url}/health/metrics").text
    assert "http_requests_total{" in metrics
    assert "http_request_duration_ms_bucket{" in metrics
    for text in (health.text, metrics):
        assert "sk-wattos" not in text
        assert "postgresql://" not in text
