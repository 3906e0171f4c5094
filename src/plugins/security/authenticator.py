"""From an `Authorization` header to a `Principal`. Knows no HTTP framework and no database."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable

from plugins.contract.credentials import CREDENTIAL_NEEDED, KEY_PREFIX, key_handle
from plugins.contract.errors import AuthenticationFailed, RetryableError
from plugins.contract.permissions import EVERYTHING
from plugins.contract.ports import Counter
from plugins.contract.principal import Principal
from plugins.security.identities import Identities
from plugins.security.tokens import Tokens

PLATFORM_ADMIN = Principal(tenant_id=None, is_platform_admin=True, permissions=EVERYTHING)
"""Whoever holds `ADMIN_KEY`. Belongs to no tenant, so it reaches no tenant's data."""

_API_KEY = re.compile(re.escape(KEY_PREFIX.encode()) + rb"[A-Za-z0-9_-]{43,128}")
"""43 url-safe characters hold the 256 bits of `generate_key`; what does not look like one is not looked up."""


API_KEY_HEADER = b"x-api-key"
"""Where Anthropic's clients put it."""

CREDENTIAL_HEADERS = frozenset({b"authorization", API_KEY_HEADER})


class Authenticator:
    """Headers only: keys in query strings end up in logs and histories, so they are not even looked at."""

    def __init__(
        self,
        admin_key: str,
        identities: Identities,
        tokens: Tokens,
        decisions: Counter,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`decisions` has one label: admin, key, user, refused, unavailable. `now`: epoch seconds, as `expires_at`."""
        self._admin_key_sha256 = hashlib.sha256(admin_key.encode()).digest()
        self._identities = identities
        self._tokens = tokens
        self._decisions = decisions
        self._now = now

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        """Raises: AuthenticationFailed, one message for every reason; RetryableError when keys cannot be checked."""
        try:
            principal = await self._who(headers)
        except RetryableError:
            self._decisions.add(1, "unavailable")
            raise
        if principal is None:
            self._decisions.add(1, "refused")
            raise AuthenticationFailed(CREDENTIAL_NEEDED)
        kind = "admin" if principal is PLATFORM_ADMIN else "user" if principal.key_id is None else "key"
        self._decisions.add(1, kind)
        return principal

    def administrator(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal | None:
        """The administrator if it is that key. Asks nobody, so even who wants to know whether all is well may ask."""
        token = _token(headers)
        return PLATFORM_ADMIN if token is not None and self._is_admin_key(hashlib.sha256(token).digest()) else None

    async def _who(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal | None:
        token = _token(headers)
        if token is None:
            return None
        token_sha256 = hashlib.sha256(token).digest()
        if self._is_admin_key(token_sha256):
            return PLATFORM_ADMIN
        now = self._now()
        if _API_KEY.fullmatch(token):
            handle: bytes | None = key_handle(token_sha256)
        else:
            handle = await self._tokens.handle_of(token, token_sha256, now)
        if handle is None:
            return None
        found = await self._identities.find(handle)
        if found is None or found.revoked or (found.expires_at is not None and found.expires_at <= now):
            return None
        if (key_id := found.principal.key_id) is not None:
            self._identities.uses[key_id] = now
        return found.principal

    def _is_admin_key(self, token_sha256: bytes) -> bool:
        # Digests of equal length: neither the time nor the length of the comparison tells anything of the key.
        return hmac.compare_digest(token_sha256, self._admin_key_sha256)


def _token(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Two credentials are no credential: proxies and servers disagree about which one counts."""
    found = [(low, value) for name, value in headers if (low := name.lower()) in CREDENTIAL_HEADERS]
    if len(found) != 1:
        return None
    name, value = found[0]
    if name == API_KEY_HEADER:
        return value.strip(b" ")
    scheme, _, token = value.partition(b" ")
    return token.strip(b" ") if scheme.lower() == b"bearer" else None
