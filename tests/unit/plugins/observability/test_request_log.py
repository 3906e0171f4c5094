"""Real requests to a real server: an id and a line, whatever becomes of the request."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from plugins.contract.principal import DEFAULT_TENANT_ID
from unit.plugins.harness import eventually, lines
from unit.plugins.observability.observed_app import CALLER, SECRET, Identify, observed


@pytest.mark.requirement("OBS-2")
async def test_a_request_is_one_line_in_pinos_shape() -> None:
    """req {method, url without query values, route, tenant, user, key id, remoteAddress}, res {statusCode}."""
    async with observed(middleware=(Identify(),)) as app:
        answer = await app.client.get("/items/7?token=never-in-the-log", headers={"x-request-id": "mine-1"})
        line = await app.line()
        assert "never-in-the-log" not in app.log.getvalue()
    assert answer.headers.get_list("x-request-id") == ["mine-1"]
    assert line["level"] == 30
    assert line["msg"] == "request completed"
    assert line["reqId"] == "mine-1"
    assert line["req"] == {
        "method": "GET",
        "url": "/items/7?token=",
        "route": "/items/{item}",
        "tenant": f"ten_{CALLER.tenant_id.hex}",
        "user": f"user_{CALLER.user_id.hex}",
        "keyId": f"key_{CALLER.key_id.hex}",
        "remoteAddress": "127.0.0.1",
    }
    assert line["res"] == {"statusCode": 200}
    assert 0 < line["responseTime"] < 5000
    assert "err" not in line


@pytest.mark.requirement("OBS-2")
async def test_an_anonymous_request_names_the_default_tenant() -> None:
    """With the security plugin off, the log says whose data was used."""
    async with observed() as app:
        await app.client.get("/items/7")
        line = await app.line()
    assert line["req"]["tenant"] == f"ten_{DEFAULT_TENANT_ID.hex}"
    assert line["req"]["keyId"] is None


@pytest.mark.parametrize(
    ("method", "path", "status", "route"),
    [
        ("GET", "/nowhere", 404, "unmatched"),
        ("GET", "/items/seven", 404, "unmatched"),
        ("DELETE", "/items/7", 405, "unmatched"),
        ("PROPFIND", "/items/7", 405, "unmatched"),
        ("OPTIONS", "/items/7", 204, "/items/{item}"),
        ("POST", "/echo", 400, "/echo"),
        ("GET", "/broken", 500, "/broken"),
        ("GET", "/away", 503, "/away"),
        ("GET", "/refused", 503, "/refused"),
        ("GET", "/stream", 200, "/stream"),
    ],
)
async def test_every_response_has_an_id_a_line_and_a_count(method: str, path: str, status: int, route: str) -> None:
    """404, 405 and errors raised in a middleware too; the id is the one that the error shows."""
    async with observed(middleware=(Identify(),)) as app:
        answer = await app.client.request(method, path, content=b"{")
        assert answer.status_code == status
        line = await app.line()
        counted = "other" if method == "PROPFIND" else method
        labels = f'{{method="{counted}",route="{route}",status="{status}"}}'
        assert await app.metric(f"http_requests_total{labels}") == 1
        assert await app.metric(f'http_request_duration_ms_count{{method="{counted}",route="{route}"}}') == 1
    assert answer.headers.get_list("x-request-id") == [line["reqId"]]
    assert line["res"] == {"statusCode": status}
    assert line["req"]["route"] == route
    assert line["level"] == (50 if status >= 500 else 30)
    if status >= 400:
        assert answer.json()["request_id"] == line["reqId"]
        assert set(line["err"]) == {"type", "message", "stack"}


@pytest.mark.requirement("OBS-1")
async def test_an_error_is_logged_where_it_happened_without_its_values() -> None:
    """A WattosError's message is safe; of any other exception the type and the frames are shown."""
    async with observed() as app:
        await app.client.get("/broken")
        await app.client.get("/away")
        await eventually(lambda: len(app.request_lines()) == 2)
        first, second = app.request_lines()
        assert SECRET not in app.log.getvalue()
    assert first["err"]["type"] == "ValueError"
    assert "observed_app.py" in first["err"]["stack"]
    assert first["msg"] == "request errored"
    assert second["err"]["message"] == "the database is away"


async def test_a_stream_is_one_line_at_its_end() -> None:
    """The response time is that of the last byte."""
    async with observed() as app:
        assert (await app.client.get("/stream")).content == b"data: x\n\n" * 3
        line = await app.line()
    assert line["msg"] == "request completed"
    assert "aborted" not in line


async def test_a_stream_is_one_line_when_the_client_leaves() -> None:
    """Nobody reads the end, and there is a line all the same, and a count."""
    async with observed() as app:
        async with app.client.stream("GET", "/endless") as answer:
            await anext(answer.aiter_bytes())
            assert app.request_lines() == []
        line = await app.line()
        assert await app.metric('http_requests_total{method="GET",route="/endless",status="200"}') == 1
    assert line["msg"] == "request aborted"
    assert line["aborted"] is True
    assert line["level"] == 30


async def test_a_stream_that_breaks_is_an_error_line() -> None:
    """The status had been sent, so only the line can say that it failed; the server's own line leaks nothing either."""
    async with observed() as app:
        with pytest.raises(httpx.RemoteProtocolError):
            await app.client.get("/breaking")
        line = await app.line()
        assert SECRET not in app.log.getvalue()
    assert line["level"] == 50
    assert line["res"] == {"statusCode": 200}
    assert line["aborted"] is True
    assert line["err"]["type"] == "ValueError"


async def test_hundred_concurrent_requests_keep_their_ids_apart() -> None:
    """Ids belong to requests, not to the process."""
    async with observed() as app:
        ids = [f"r-{n}" for n in range(100)]
        answers = await asyncio.gather(*(app.client.get("/items/1", headers={"x-request-id": i}) for i in ids))
        await eventually(lambda: len(app.request_lines()) == 100)
        assert {line["reqId"] for line in app.request_lines()} == set(ids)
    assert [answer.headers["x-request-id"] for answer in answers] == ids


async def test_every_line_of_the_process_is_json() -> None:
    """uvicorn's start and end too: `lines` parses each."""
    async with observed() as app:
        await app.client.get("/items/7")
    contexts = {line["context"] for line in lines(app.log.getvalue())}
    assert {"uvicorn.error", "wattos.http"} <= contexts
    assert "uvicorn.access" not in contexts


async def test_log_level_error_silences_requests_but_still_counts_them() -> None:
    """`LOG_LEVEL` is about lines only."""
    async with observed(level="error") as app:
        await app.client.get("/items/7")
        await app.client.get("/broken")
        assert (await app.line())["res"] == {"statusCode": 500}
        assert await app.metric('http_requests_total{method="GET",route="/items/{item}",status="200"}') == 1
