"""The signing keys of an external provider, by OpenID Connect's discovery: fetched, remembered, and fetched anew."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from yarl import URL

from plugins.contract.errors import RetryableError

logger = logging.getLogger("security")

Fetch = Callable[[str], Awaitable[bytes]]
"""GET of a JSON document. Raises: OSError, aiohttp.ClientError, TimeoutError."""

FRESH_S: Final = 900.0
"""Then the set is fetched anew, beside the requests."""
STALE_S: Final = 86_400.0
"""A set that cannot be fetched anew is used so long."""
ASK_AGAIN_S: Final = 10.0
"""Between two fetches, whoever asks: tokens with made-up key ids must not become requests to the provider."""
TIMEOUT_S: Final = 5.0
MAX_DOCUMENT_BYTES: Final = 512 * 1024
MIN_RSA_BITS: Final = 2048

ALGORITHMS: Final[Mapping[str, frozenset[str]]] = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA"}),
}
"""By type of key: asymmetric ones alone, so that a public key is never taken for a secret."""


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """One public key and the algorithms that it is for."""

    kid: str | None
    key: Any
    algorithms: frozenset[str]


class _Listed(msgspec.Struct):
    """RFC 7517, 5."""

    keys: list[dict[str, Any]] = []


class KeySet:
    """The provider's keys. `version` grows whenever they may have changed."""

    def __init__(self, issuer: str, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._keys: list[SigningKey] = []
        self._fetched_s = float("-inf")
        self._tried_s = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self.version = 0

    async def key_for(self, kid: str | None, algorithm: str) -> SigningKey | None:
        """None for a key that the provider does not have. Raises: RetryableError when it never said which it has."""
        found = self._find(kid, algorithm)
        if found is None:
            await self._fetch_anew()
            found = self._find(kid, algorithm)
        elif self._age_s() > FRESH_S:
            self._begin()
        if self._age_s() > STALE_S:
            raise RetryableError("the provider's keys cannot be had at the moment", retry_after_s=ASK_AGAIN_S)
        return found

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _age_s(self) -> float:
        return self._clock() - self._fetched_s

    def _find(self, kid: str | None, algorithm: str) -> SigningKey | None:
        if self._age_s() > STALE_S:
            return None
        fitting = [key for key in self._keys if algorithm in key.algorithms and (kid is None or key.kid == kid)]
        return fitting[0] if len(fitting) == 1 else None

    def _begin(self) -> asyncio.Task[None] | None:
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if self._clock() - self._tried_s < ASK_AGAIN_S:
            return None
        self._tried_s = self._clock()
        self._fetching = asyncio.create_task(self._read(), name="oidc-keys")
        return self._fetching

    async def _fetch_anew(self) -> None:
        fetching = self._begin()
        if fetching is not None:
            await asyncio.shield(fetching)

    async def _read(self) -> None:
        try:
            self._keys = await self._all()
        except (aiohttp.ClientError, OSError, msgspec.DecodeError, ValueError) as exc:
            logger.warning("the keys of the OIDC provider cannot be read: %s", type(exc).__name__)
            return
        self._fetched_s = self._clock()
        self.version += 1

    async def _all(self) -> list[SigningKey]:
        discovered = await self._fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        said = msgspec.json.decode(discovered, type=dict[str, Any])
        address = str(said.get("jwks_uri", ""))
        if said.get("issuer") != self._issuer:
            raise ValueError("discovery is for another issuer")
        if URL(address).scheme != "https" and URL(address).origin() != URL(self._issuer).origin():
            raise ValueError("jwks_uri is not https")
        listed = msgspec.json.decode(await self._fetch(address), type=_Listed).keys
        read = [_read_key(one) for one in listed]
        return [key for key in read if key is not None]


def _read_key(listed: Mapping[str, Any]) -> SigningKey | None:
    """None for what is no public key to check signatures with."""
    algorithms = ALGORITHMS.get(str(listed.get("kty")), frozenset())
    if "alg" in listed:
        algorithms &= {str(listed["alg"])}
    if not algorithms or listed.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK.from_dict({**listed, "alg": next(iter(algorithms))}).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return None
    kid = listed.get("kid")
    return SigningKey(kid=kid if isinstance(kid, str) else None, key=key, algorithms=algorithms)


class Fetcher:
    """GET over one session, made with the first: bounded, and followed nowhere."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise OSError(f"status {response.status}")
            body = await response.content.read(MAX_DOCUMENT_BYTES + 1)
            while len(body) <= MAX_DOCUMENT_BYTES and (piece := await response.content.read(MAX_DOCUMENT_BYTES)):
                body += piece
        if len(body) > MAX_DOCUMENT_BYTES:
            raise OSError("a document without end")
        return body

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
