"""A request without a server. Litestar's own RequestFactory makes an app, which takes over the process's logging."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.datastructures import State

from app.http.context import REQUEST_ID


def bare_request(path: str = "/", **state: object) -> Request[Any, Any, State]:
    """A GET whose `scope["state"]` holds the request id `id-1` and `state`."""
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "state": {REQUEST_ID: "id-1", **state},
    }
    return Request(scope)  # type: ignore[arg-type]  # what of a scope is read here
