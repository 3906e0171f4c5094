"""What is said about a request, without a server."""

from __future__ import annotations

import pytest

from plugins.observability.requests import choose_request_id, loggable_url


@pytest.mark.parametrize("given", [b"a", b"4bf92f35-77b3.4da6_A", b"x" * 128])
def test_request_id_is_kept_when_well_formed(given: bytes) -> None:
    """A caller may trace its request through us."""
    assert choose_request_id([(b"host", b"h"), (b"x-request-id", given)]) == given.decode()


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a b", b"a\n", b'a"', "ä".encode(), b"{}"])
def test_request_id_is_generated_when_malformed(given: bytes) -> None:
    """Nothing that a caller makes up can break a log line or a header."""
    made = choose_request_id([(b"x-request-id", given)])
    assert len(made) == 32
    assert made != choose_request_id([(b"x-request-id", given)])


@pytest.mark.requirement("OBS-2")
@pytest.mark.parametrize(
    ("path", "query", "shown"),
    [
        ("/v1/files", b"", "/v1/files"),
        ("/v1/files", b"limit=3&after=file_7", "/v1/files?limit=&after="),
        ("/v1/files", b"api_key=sk-wattos-abcdefgh", "/v1/files?api_key="),
        ("/v1/files", b"secret", "/v1/files?…"),
        ("/v1/files/sk-wattos-abcdefghijk", b"", "/v1/files/sk-…"),
        ("/" + "a" * 5000, b"", "/" + "a" * 1023),
    ],
)
def test_url_is_logged_without_query_values_or_keys(path: str, query: bytes, shown: str) -> None:
    """A log shows which parameters were given, never what with."""
    assert loggable_url(path, query) == shown
