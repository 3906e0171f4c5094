"""What of an answer is kept, when, and when it is none."""

from __future__ import annotations

from typing import Any

import pytest

from app.http.answer import BROKE_OFF
from app.idempotency.model import Answer
from app.idempotency.recording import MAX_ANSWER_BYTES, Given, Passing, Recording
from app.idempotency.sealing import Secrets

SECRETS = Secrets("a secret of the tests")


class Client:
    """The other end: what it got, and what had been kept when it did."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.kept: list[tuple[int, Answer | None]] = []
        self.scope: Any = {"state": {}}
        self.recording = Recording(self.scope, self._send, self._finish)

    async def _send(self, message: Any) -> None:
        self.got.append((message, len(self.kept)))

    async def _finish(self, status: int, answer: Answer | None) -> None:
        self.kept.append((status, answer))

    async def answered(self, status: int, *pieces: bytes, headers: Any = (), is_whole: bool = True) -> None:
        await self.recording({"type": "http.response.start", "status": status, "headers": list(headers)})
        for number, piece in enumerate(pieces, 1):
            more = not is_whole or number < len(pieces)
            await self.recording({"type": "http.response.body", "body": piece, "more_body": more})


async def test_an_answer_is_kept_before_its_last_byte_leaves() -> None:
    """Who has all of it finds it kept; what comes before is not held back."""
    client = Client()
    await client.answered(200, b"a", b"b", b"")
    assert [n_kept for _, n_kept in client.got] == [0, 0, 0, 1]
    assert client.kept == [(200, Answer(200, [], b"ab"))]
    assert client.recording.is_finished


async def test_headers_of_the_moment_are_not_kept() -> None:
    """Kinds, caching and the trail are; ids, limits and cookies are not."""
    kept = [(b"content-type", b"text/event-stream"), (b"X-Wattos-Target", b"t"), (b"cache-control", b"no-cache")]
    moment = [(b"x-request-id", b"1"), (b"x-ratelimit-remaining", b"2"), (b"set-cookie", b"3"), (b"retry-after", b"4")]
    client = Client()
    await client.answered(200, b"", headers=[*kept, *moment])
    assert client.kept == [(200, Answer(200, kept, b""))]


@pytest.mark.parametrize("status", [200, 201, 204, 400, 404, 413, 415, 422])
async def test_what_follows_from_the_request_is_final(status: int) -> None:
    """Successes, and refusals that sending again does not change."""
    client = Client()
    await client.answered(status, b"")
    assert [kept[0] for kept in client.kept] == [status]


@pytest.mark.parametrize("status", [301, 401, 402, 403, 408, 409, 429, 499, 500, 501, 502, 503, 504, 507])
async def test_what_may_end_differently_next_time_is_not(status: int) -> None:
    """Credentials, money, limits, conflicts, time, and whatever is 5xx."""
    client = Client()
    await client.answered(status, b"")
    assert client.kept == []
    assert len(client.got) == 2
    assert not client.recording.is_finished


async def test_a_stream_that_broke_off_or_did_not_end_is_no_answer() -> None:
    """Its status is 200 all the same."""
    broken, left = Client(), Client()
    broken.scope["state"][BROKE_OFF] = True
    await broken.answered(200, b"data: 1\n\n", b"data: error\n\n")
    await left.answered(200, b"data: 1\n\n", is_whole=False)
    assert broken.kept == left.kept == []


@pytest.mark.parametrize(("n_bytes", "is_kept"), [(MAX_ANSWER_BYTES, True), (MAX_ANSWER_BYTES + 1, False)])
async def test_an_answer_is_kept_up_to_a_bound(n_bytes: int, is_kept: bool) -> None:
    """Beyond it, the fact alone; the client gets it whole."""
    client = Client()
    await client.answered(200, b"x" * (n_bytes - 1), b"x", b"")
    ((status, answer),) = client.kept
    assert (status, answer is not None) == (200, is_kept)
    assert sum(len(message.get("body", b"")) for message, _ in client.got) == n_bytes


async def test_a_body_that_was_read_is_given_once() -> None:
    """What comes after it comes from the connection."""

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    given = Given(b"body", SECRETS.fingerprint(b""), receive)
    assert await given() == {"type": "http.request", "body": b"body", "more_body": False}
    assert await given() == {"type": "http.disconnect"}


async def test_a_body_that_passes_has_a_fingerprint_at_its_end() -> None:
    """The same as one that was read before; none where the handler stopped reading."""
    pieces = [b"one", b"two"]

    async def receive() -> Any:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    passing = Passing(SECRETS.fingerprint(b""), receive)
    await passing()
    assert passing.fingerprint is None
    await passing()
    assert passing.fingerprint == Given(b"onetwo", SECRETS.fingerprint(b""), receive).fingerprint
