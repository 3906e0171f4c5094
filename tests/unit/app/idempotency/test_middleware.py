"""What a request without the header costs: nothing is put around it."""

from __future__ import annotations

from typing import Any

import pytest

from app.database.engine import Database
from app.idempotency.middleware import IdempotencyMiddleware
from app.idempotency.sealing import Secrets
from app.idempotency.service import IdempotencyService
from plugins.contract.principal import ANONYMOUS


class App:
    """Notes what it is called with. Its answer is an object, so that it is seen to be passed on."""

    def __init__(self) -> None:
        self.answer: Any = object()
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *call: Any) -> Any:
        self.calls.append(call)
        return self.answer


@pytest.mark.parametrize(
    ("kind", "method", "name"),
    [
        ("http", "POST", b"x-idempotency-key"),
        ("http", "GET", b"idempotency-key"),
        ("websocket", "", b"idempotency-key"),
    ],
)
def test_without_the_header_or_without_a_post_nothing_is_wrapped(kind: str, method: str, name: bytes) -> None:
    """The very objects, and the app's own awaitable."""
    service = IdempotencyService(Database(), Secrets("x"), wait_s=1)
    app: Any = App()
    call: Any = ({"type": kind, "method": method, "headers": [(b"host", b"x"), (name, b"k")]}, object(), object())
    assert IdempotencyMiddleware(service, ANONYMOUS).around(app)(*call) is app.answer
    assert app.calls == [call]
