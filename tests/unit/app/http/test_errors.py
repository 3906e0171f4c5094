"""The one table from exceptions to responses, and its two shapes."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from litestar import Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException

import app.database.errors
import app.errors as e
import app.knowledge.ingestion.errors
import app.local_models.errors
from app.http.errors import handle_http_exception, handle_unknown, handle_wattos_error, status_of
from app.http.sse import error_event
from plugins.contract import errors as root
from unit.app.http.support import bare_request

ROOMS = (root, e, app.database.errors, app.knowledge.ingestion.errors, app.local_models.errors)
KINDS = sorted(
    {
        kind
        for room in ROOMS
        for kind in vars(room).values()
        if isinstance(kind, type) and issubclass(kind, root.WattosError)
    },
    key=lambda kind: kind.__name__,
)


def body_of(response: Response[Any]) -> dict[str, Any]:
    """As it goes over the wire: fields at their defaults may be left out there."""
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(response.content))
    return decoded


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_status_and_a_stable_code(kind: type[root.WattosError]) -> None:
    """No error of ours is without an answer; retryable ones are never the client's fault."""
    error = kind("a message")
    assert 400 <= status_of(error) <= 507
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", error.code)
    assert not (error.retryable and status_of(error) in {400, 401, 403, 404, 413})


def test_codes_name_one_kind_each() -> None:
    """A client that reacts to a code reacts to one thing. A deadline is one, whether it came in the queue or later."""
    codes = [kind.code for kind in KINDS if "code" in vars(kind) and kind is not root.DeadlinePassed]
    assert root.DeadlinePassed.code == e.DeadlineExceeded.code
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("path", ["/v1", "/v1/files", "/v1/a/b"])
def test_openais_shape_under_v1(path: str) -> None:
    """What its SDKs read: exactly four fields, whether known or not."""
    answer = handle_wattos_error(bare_request(path), e.InvalidRequest("no", param="name", code="missing_field"))
    assert answer.status_code == 400
    assert body_of(answer) == {
        "error": {"message": "no", "type": "invalid_request_error", "code": "missing_field", "param": "name"}
    }


@pytest.mark.parametrize("path", ["/", "/v1x", "/V1/files", "/api/v1/tenants", "/health"])
def test_problems_everywhere_else(path: str) -> None:
    """RFC 9457, with the request id as the instance."""
    answer = handle_wattos_error(bare_request(path), e.NotFound("no tenant with this id"))
    assert answer.media_type == "application/problem+json"
    assert body_of(answer) == {
        "type": "urn:wattos:error:not_found",
        "title": "Not Found",
        "status": 404,
        "detail": "no tenant with this id",
        "code": "not_found",
        "instance": "id-1",
    }


@pytest.mark.parametrize("path", ["/v1/files", "/api/v1/tenants"])
def test_unknown_exception_says_nothing_of_itself(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """500 with the request id alone; its stack is in the log."""
    answer = handle_unknown(bare_request(path), ZeroDivisionError("hunter2"))
    assert answer.status_code == 500
    text = json.dumps(body_of(answer))
    assert "id-1" in text
    assert "hunter2" not in text
    assert "ZeroDivision" not in text
    assert "ZeroDivisionError" in caplog.text


def test_frameworks_own_500_is_as_mute_as_any_other(caplog: pytest.LogCaptureFixture) -> None:
    """Its detail may be an exception's text."""
    answer = handle_http_exception(bare_request("/v1/files"), HTTPException("hunter2", status_code=500))
    assert answer.status_code == 500
    assert "hunter2" not in json.dumps(body_of(answer))
    assert caplog.records


@pytest.mark.parametrize(
    ("exc", "status", "code"),
    [
        (NotFoundException(), 404, "not_found"),
        (MethodNotAllowedException(), 405, "method_not_allowed"),
        (HTTPException(status_code=413), 413, "request_too_large"),
        (HTTPException(status_code=415), 415, "unsupported_media_type"),
        (HTTPException(status_code=408), 408, "request_timeout"),
        (HTTPException(status_code=418), 400, "invalid_request"),
    ],
)
def test_frameworks_refusals_have_codes_of_ours(exc: HTTPException, status: int, code: str) -> None:
    """And a text, also where the framework has none."""
    answer = handle_http_exception(bare_request("/v1/x"), exc)
    error = body_of(answer)["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert error["message"]


@pytest.mark.parametrize(("asked_s", "told"), [(None, None), (0.2, "1"), (1.0, "1"), (17.4, "17")])
def test_retry_after_is_passed_on_in_whole_seconds(asked_s: float | None, told: str | None) -> None:
    """Defect 13. Never 0, which means at once."""
    answer = handle_wattos_error(bare_request("/v1/x"), root.RetryableError("away", retry_after_s=asked_s))
    assert (answer.status_code, answer.headers.get("retry-after")) == (503, told)


def test_credentials_are_asked_for_by_their_scheme() -> None:
    """RFC 9110, 11.6.1: a 401 says how."""
    answer = handle_wattos_error(bare_request("/v1/x"), root.AuthenticationFailed("a key is needed"))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_stream_that_breaks_ends_with_one_event() -> None:
    """OpenAI's shape in one whole event, bare newlines, no `[DONE]`."""
    event = error_event(e.UpstreamUnavailable("the target broke off\nin the middle"))
    assert event.startswith(b"data: ")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
    error = json.loads(event.removeprefix(b"data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "upstream_unavailable")


def test_useless_retries_are_told_off() -> None:
    """OpenAI's clients retry 409 and 5xx by themselves, and every try of a model costs."""
    for error in (e.Conflict("taken"), e.UpstreamMisconfigured("no key"), e.NotFound("no")):
        assert handle_wattos_error(bare_request("/v1/x"), error).headers["x-should-retry"] == "false"
    for other in (e.UpstreamUnavailable("away"), e.AllTargetsFailed("all")):
        assert "x-should-retry" not in handle_wattos_error(bare_request("/v1/x"), other).headers


def test_an_error_of_a_plugin_of_others_has_its_parents_code() -> None:
    """What the table does not know is never answered."""

    class Odd(root.PermissionDenied):
        code = "odd"

    answer = handle_wattos_error(bare_request("/v1/x"), Odd("no"))
    assert (answer.status_code, body_of(answer)["error"]["code"]) == (403, "permission_denied")


def test_client_that_left_is_told_nothing() -> None:
    """499 is for the request log: it is no code, and no error of ours."""
    answer = handle_http_exception(bare_request("/v1/x"), HTTPException("the client left", status_code=499))
    assert (answer.status_code, answer.content) == (499, None)
