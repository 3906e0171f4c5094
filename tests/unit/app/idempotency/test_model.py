"""Which requests share a key's place, and what is a key at all."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.model import PLATFORM_CHAIN
from app.errors import InvalidRequest
from app.idempotency.model import place_of
from plugins.contract.principal import ANONYMOUS, KeyId, Principal, TenantId

TENANT = TenantId(UUID(int=1))
USER = Principal(tenant_id=TENANT, user_id=UUID(int=2))
USERS_KEY = Principal(tenant_id=TENANT, user_id=UUID(int=2), key_id=KeyId(UUID(int=2)))
PLATFORM = Principal(tenant_id=None, is_platform_admin=True)


def test_each_caller_and_route_has_places_of_its_own() -> None:
    """A user and its key are two callers, even with one id; so are the administrator and nobody in particular."""
    callers = [USER, USERS_KEY, Principal(tenant_id=TENANT, key_id=KeyId(UUID(int=3))), PLATFORM, ANONYMOUS]
    places = {place_of(who, "POST", path, b"k").id for who in callers for path in ("/v1/files", "/v1/embeddings")}
    assert len(places) == 2 * len(callers)


def test_who_belongs_to_no_tenant_has_the_platforms_place() -> None:
    """As in the audit log: row-level security needs a tenant."""
    assert place_of(PLATFORM, "POST", "/x", b"k").tenant_id == PLATFORM_CHAIN
    assert place_of(USER, "POST", "/x", b"k").tenant_id == TENANT


@given(st.text(min_size=1), st.text(min_size=1), st.from_regex(r"[!-~]{1,255}", fullmatch=True))
def test_no_path_and_key_write_like_another(path: str, other: str, key: str) -> None:
    """Whatever stands in a path, line breaks and surrogates too."""
    one, two = (place_of(USER, "POST", of, key.encode()) for of in (path, other))
    assert (one == two) is (path == other)


@pytest.mark.parametrize("key", [b"k", b"x" * 255, b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', b"!~"])
def test_visible_ascii_is_a_key(key: bytes) -> None:
    """The quotes of a structured field (IETF's draft) are part of it: the same client sends them again."""
    assert place_of(USER, "POST", "/x", key).tenant_id == TENANT


@pytest.mark.parametrize("key", [b"", b" ", b"a b", b"x" * 256, b"\x7f", "ü".encode()])
def test_other_bytes_are_none(key: bytes) -> None:
    """Named, without a byte of it."""
    with pytest.raises(InvalidRequest) as caught:
        place_of(USER, "POST", "/x", key)
    assert caught.value.param == "Idempotency-Key"
