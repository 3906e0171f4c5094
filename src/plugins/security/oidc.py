"""Tokens of an external OpenID Connect provider: signed with one of its keys, for us, and not over."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jwt
import msgspec

from plugins.security.jwks import ALGORITHMS, Fetch, Fetcher, KeySet

MAX_TOKEN_BYTES: Final = 16 * 1024
MAX_SUBJECT_CHARS: Final = 255
LEEWAY_S: Final = 30.0
REMEMBERED_S: Final = 60.0
MAX_REMEMBERED: Final = 10_000

_KNOWN: Final = frozenset[str]().union(*ALGORITHMS.values())


class ExternalIdentity(msgspec.Struct, frozen=True):
    """Whom a token is for: `sub`, and the slug that the tenant's claim holds, where one is configured."""

    subject: str
    tenant: str | None = None


class _Verified(NamedTuple):
    identity: ExternalIdentity
    until: float
    version: int


class OidcVerifier:
    """Checks tokens of one issuer for one audience."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        tenant_claim: str | None = None,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._tenant_claim = tenant_claim
        self._clock = clock
        self._fetcher = Fetcher()
        self._keys = KeySet(issuer, fetch or self._fetcher.get, monotonic)
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def verify(self, token: bytes) -> ExternalIdentity | None:
        """None: not valid. Why, nobody is told. Raises: RetryableError when no keys of the provider are known."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        digest, now = hashlib.sha256(token).digest(), self._clock()
        known = self._verified.get(digest)
        if known is not None and known.version == self._keys.version and now < known.until:
            return known.identity
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in _KNOWN or "crit" in header or not (kid is None or isinstance(kid, str)):
            return None
        key = await self._keys.key_for(kid, str(algorithm))
        if key is None:
            return None
        try:
            claims = jwt.decode(
                token,
                key.key,
                [str(algorithm)],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        identity = self._identity(claims)
        if identity is not None:
            self._verified[digest] = _Verified(
                identity, min(now + REMEMBERED_S, float(claims["exp"])), self._keys.version
            )
            if len(self._verified) > MAX_REMEMBERED:
                self._verified.popitem(last=False)
        return identity

    async def close(self) -> None:
        await self._keys.close()
        await self._fetcher.close()

    def _identity(self, claims: dict[str, Any]) -> ExternalIdentity | None:
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS or not subject.isprintable():
            return None
        if self._tenant_claim is None:
            return ExternalIdentity(subject)
        tenant = claims.get(self._tenant_claim)
        return ExternalIdentity(subject, tenant) if isinstance(tenant, str) else None
