"""Every code of the one table is answered by a real server to a real request, and nothing is answered beside it."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import get_args

import httpx
import msgspec
import pytest
from sqlalchemy.engine import make_url

import app
import app.errors
import app.factory
import plugins.contract.errors as root
from api.error_drivers import DRIVERS, Faulty, models
from api.overload_drivers import MAX_CONCURRENT_REQUESTS, MAX_CONNECTIONS
from api.test_third_party_plugins import install
from app.http.error_table import BY_STATUS, TABLE
from app.http.refusal import MESSAGES
from app.knowledge.ingestion.errors import DocumentError
from gateway import Gateway
from postgres import Cluster
from raw_http import Answer
from server import ROOT, environment, running
from upstream import answers, running_upstream

CRASHING = '''
"""A plugin whose route has a bug."""

from typing import Self

from litestar import get
from litestar.middleware import ASGIMiddleware

from plugins.contract.permissions import needs
from plugins.contract.plugin import GatewayPlugin


class Crashing(ASGIMiddleware):
    async def handle(self, scope, receive, send, next_app):
        if any(name == b"x-crash" for name, _ in scope["headers"]):
            raise ZeroDivisionError("hunter2 in a middleware")
        await next_app(scope, receive, send)


class Plugin(GatewayPlugin):
    name = "crash"

    @classmethod
    def from_env(cls, env) -> Self:
        return cls()

    def on_app_init(self, app_config):
        @get(["/v1/crash", "/crash"], opt=needs("self:read"))
        async def crash() -> None:
            raise ZeroDivisionError("hunter2")

        @get(["/v1/numbered/{number:int}", "/numbered/{number:int}"], opt=needs("self:read"))
        async def numbered(number: int) -> int:
            return number

        app_config.route_handlers += [crash, numbered]
        app_config.middleware.append(Crashing())
        return app_config
'''

NEVER_ANSWERED = {
    "invalid_settings": "start",
    "database_unfit": "start",
    "schema_drift": "start",
    "broken_audit_log": "wattos audit verify",
    "cannot_open": "wattos secrets rotate",
    "weights_unavailable": "wattos models pull",
    "pip_missing": "wattos models pull",
    "download_failed": "wattos models pull",
    "hash_mismatch": "wattos models pull",
    "disk_full": "wattos models pull",
    "unreadable_export": "wattos usage reconcile",
    "demo_failed": "wattos demo",
    "child_failed": "the supervisor of children",
    "dependency_away": "GET /health",
}
"""Errors of ours that end a start or a command; those of documents go into `last_error`."""


PRODUCTION = {"APP_ENV": "production", "WORKER_ENABLED": "false", "SHUTDOWN_DELAY_S": "0"}


@pytest.fixture(scope="module")
async def database_url(cluster: Cluster) -> str:
    return await cluster.create_database()


@pytest.fixture(scope="module")
def faulty(
    database_url: str, cluster: Cluster, shared_gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Faulty]:
    tmp_path = tmp_path_factory.mktemp("faulty")
    install(tmp_path / "site", "crash = crashing:Plugin", crashing=CRASHING)
    with running_upstream() as upstream, shared_gateway.http(shared_gateway.server.make_key("every")) as with_models:
        (tmp_path / "models.yaml").write_bytes(msgspec.json.encode(models(upstream.url)))
        env = environment(
            tmp_path / "data",
            DATABASE_URL=database_url,
            MODELS_CONFIG=str(tmp_path / "models.yaml"),
            PYTHONPATH=str(tmp_path / "site"),
            PLUGINS_CRASH_ENABLED="true",
            LOCAL_MODELS_ENABLED="false",
            MAX_CONNECTIONS=str(MAX_CONNECTIONS),
            PLUGINS_RESILIENCE_MAX_CONCURRENT_REQUESTS=str(MAX_CONCURRENT_REQUESTS),
            PLUGINS_RESILIENCE_MAX_QUEUED_REQUESTS="0",
            REQUEST_HEADER_TIMEOUT_S="0.5",
            RETRY_MAX_ATTEMPTS="1",
            IDEMPOTENCY_WAIT_S="0.2",
        )
        bare = environment(tmp_path / "bare", DATABASE_URL=database_url, LOCAL_MODELS_ENABLED="false", **PRODUCTION)
        with (
            running(env, tmp_path / "server.log") as server,
            running(bare, tmp_path / "bare.log") as in_production,
            in_production.admin() as bare_admin,
        ):
            yield Faulty(
                server=server,
                upstream=upstream,
                key=server.make_key("one"),
                database=str(make_url(database_url).database),
                superuser_url=cluster.url,
                files=tmp_path / "data" / "files",
                models_config=tmp_path / "models.yaml",
                with_models=with_models,
                in_production=bare_admin,
            )


def shaped(answer: Answer, *, is_openai: bool) -> str:
    """Its code, once the shape is found to be the one of its path, exactly."""
    body = answer.json()
    assert answer.headers["x-request-id"]
    if is_openai:
        assert answer.headers["content-type"] == "application/json"
        assert body.keys() == {"error"}
        error = body["error"]
        assert error.keys() - {"attempts"} == {"message", "type", "code", "param"}
        assert error["type"] == TABLE[error["code"]].openai_type
        assert error["message"]
        return str(error["code"])
    assert answer.headers["content-type"] == "application/problem+json"
    assert body.keys() - {"param"} == {"type", "title", "status", "detail", "code", "instance"}
    assert body["type"] == f"urn:wattos:error:{body['code']}"
    assert body["status"] == answer.status
    assert body["title"] == HTTPStatus(answer.status).phrase
    assert body["instance"] == answer.headers["x-request-id"]
    assert body["detail"]
    return str(body["code"])


def test_every_code_has_a_driver() -> None:
    """Who adds a code shows how it comes to be answered."""
    assert DRIVERS.keys() == TABLE.keys()


@pytest.mark.parametrize("code", DRIVERS)
def test_every_code_is_answered_with_its_status_and_shape(faulty: Faulty, code: str) -> None:
    """Status, code, shape and headers are those of the table, whatever brought it about."""
    answer = DRIVERS[code](faulty)
    is_openai = "error" in answer.json()
    assert (shaped(answer, is_openai=is_openai), answer.status) == (code, TABLE[code].status)
    assert answer.headers.get("x-should-retry") == (None if TABLE[code].retryable else "false")
    assert (answer.headers.get("www-authenticate") == "Bearer") is (answer.status == HTTPStatus.UNAUTHORIZED)
    assert ("allow" in answer.headers) is (answer.status == HTTPStatus.METHOD_NOT_ALLOWED)
    if code == "upstream_rate_limited":
        assert answer.headers["retry-after"] == "17"
    if code in {"circuit_open", "overloaded", "too_many_connections", "idempotency_in_progress"}:
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/v1/crash", "/crash"])
@pytest.mark.parametrize("crash", [{}, {"x-crash": "1"}])
def test_a_bug_is_a_500_that_tells_its_request_id_alone(faulty: Faulty, path: str, crash: dict[str, str]) -> None:
    """In a handler or in a middleware, in both shapes; the stack is in the log, the exception's text nowhere."""
    headers = {"x-request-id": "bug-1", **crash}
    answer = faulty.http("GET", path, headers=headers)
    assert shaped(answer, is_openai=path.startswith("/v1")) == "internal_error"
    assert b"bug-1" in answer.body
    for secret in (b"hunter2", b"ZeroDivision", b"site", b"Traceback"):
        assert secret not in answer.body
    log = faulty.server.logged()
    assert "ZeroDivisionError" in log
    assert "hunter2" not in log


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/numbered/x", 404, "not_found"),
        ("GET", "/numbered/x", 404, "not_found"),
        ("GET", "/numbered/1.5", 404, "not_found"),
        ("GET", "/v1/files?limit=x", 400, "invalid_request"),
        ("GET", "/api/v1/tenants?limit=x", 400, "invalid_request"),
        ("GET", "/v1/%2e%2e/%2e%2e/api/v1/tenants", 404, "not_found"),
        ("GET", "/%76%31/nothing", 404, "not_found"),
        ("GET", "/v1/files/%00", 404, "not_found"),
        ("OPTIONS", "/v1/nothing", 404, "not_found"),
        ("OPTIONS", "/nothing", 404, "not_found"),
        ("PATCH", "/api/v1/tenants", 405, "method_not_allowed"),
        ("DELETE", "/v1/chat/completions", 405, "method_not_allowed"),
    ],
)
def test_refusals_around_routing_have_the_shape_of_the_path(
    faulty: Faulty, method: str, path: str, status: int, code: str
) -> None:
    """Path and query parameters, encoded paths, methods: the decoded path decides, as it does for routing."""
    answer = faulty.admin(method, path) if path.startswith("/api") else faulty.http(method, path)
    decoded = httpx.URL(path).path
    assert answer.status == status
    assert shaped(answer, is_openai=decoded.startswith("/v1/")) == code
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        assert {"GET", "POST"} & {method.strip() for method in answer.headers["allow"].split(",")}


def test_an_encoded_path_is_the_same_path_to_authentication(faulty: Faulty) -> None:
    """Decoded once, before both: no spelling of a route is open."""
    for path in ("/v1%2fmodels", "/%76%31/models", "//v1//models", "/v1/./models", "/api%2Fv1/tenants"):
        answer = httpx.get(faulty.server.url + path)
        assert answer.status_code in {401, 404}, path
    assert faulty.http("GET", "/v1%2fmodels").status == 200


def test_head_of_an_error_has_its_headers_and_no_body(faulty: Faulty) -> None:
    """RFC 9110, 9.3.2."""
    for path, status in (("/v1/nothing", 404), ("/nothing", 404), ("/v1/chat/completions", 405)):
        answer = faulty.http("HEAD", path)
        assert (answer.status, answer.body) == (status, b"")
        assert int(answer.headers["content-length"]) > 0


def test_a_stream_that_breaks_names_a_code_of_the_table(faulty: Faulty) -> None:
    """After the first byte the status is sent: one last event, in OpenAI's shape, and no `[DONE]`."""
    faulty.upstream.on("kind", answers("Hello there", die_after=2))
    body = {"model": "kind", "messages": [{"role": "user", "content": "x"}], "stream": True}
    text = faulty.http("POST", "/v1/chat/completions", json=body).body.decode()
    last = msgspec.json.decode(text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] in TABLE
    assert last["error"]["type"] == TABLE[last["error"]["code"]].openai_type
    assert "[DONE]" not in text


def _kinds(kind: type[root.WattosError]) -> Iterator[type[root.WattosError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


def test_every_error_class_is_answered_or_known_never_to_be() -> None:
    """By its own code: falling back to its parent's is for plugins of others. No code is in the table for nothing."""
    for path in (ROOT / "src").rglob("*.py"):
        if re.search(r'^    code(: .*)? = "', path.read_text(), re.MULTILINE):  # wherever one is defined
            importlib.import_module(".".join(path.relative_to(ROOT / "src").with_suffix("").parts))
    own = {k for k in _kinds(root.WattosError) if k.__module__.split(".")[0] in {"app", "plugins"}}
    codes = {kind.code for kind in own if not issubclass(kind, DocumentError)}
    assert codes - TABLE.keys() == NEVER_ANSWERED.keys()
    known = codes | set(get_args(app.errors.Reason)) | set(BY_STATUS.values()) | set(MESSAGES)
    assert TABLE.keys() - known == set()
    assert set(get_args(app.errors.Reason)) <= TABLE.keys()


def test_no_status_of_the_framework_is_raised_that_the_table_lacks() -> None:
    """Where `src` raises a bare HTTPException, its status has a code; 499 is for the log alone."""
    raised = {
        ast.unparse(keyword.value)
        for path in (ROOT / "src" / "app").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "HTTPException"
        for keyword in call.keywords
        if keyword.arg == "status_code"
    }
    assert raised - {"CLIENT_CLOSED_REQUEST"} <= {str(status) for status in BY_STATUS}


def test_domain_errors_know_no_http() -> None:
    """Neither the tree nor what raises it names a status: that is the table's."""
    for module in (root, app.errors):
        assert "HTTPStatus" not in inspect.getsource(module)
        assert not any(hasattr(kind, "status_code") for kind in _kinds(root.WattosError))


def test_the_page_is_the_table() -> None:
    """docs/errors.md lists every code with its status."""
    page = (ROOT / "docs" / "errors.md").read_text()
    for code, row in TABLE.items():
        assert f"| `{code}` | {row.status} " in page
