"""The one pool of connections to vendors: kept alive, without cookies, without redirects, one DNS cache."""

from __future__ import annotations

import aiohttp

from app.llm.model import Target
from app.outbound import guarded_session

KEEP_ALIVE_S = 30.0
"""Vendors' load balancers close idle connections after 60 s and more; ours go first, so none breaks as it is used."""

DNS_CACHE_S = 60
"""As long as the records of most vendors live."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
"""Variables that send calls through a proxy."""


READ_BUFFER_BYTES = 32 * 1024
"""Of one answer that nobody reads yet: 200 stalled readers hold 125 MB then, 300 with aiohttp's 64 KiB (measured)."""


class Pool:
    """Opened with the first call, on the loop that makes it; `close` ends all its connections."""

    def __init__(self, *, trust_env: bool = False, allowed_hosts: frozenset[str] = frozenset()) -> None:
        """`trust_env`: HTTP_PROXY and its kin are read for each call (20 µs). `allowed_hosts`: what is not public and
        may be connected to although a tenant chose it.
        """
        self._trust_env = trust_env
        self._allowed_hosts = allowed_hosts
        self._session: aiohttp.ClientSession | None = None
        self._guarded: aiohttp.ClientSession | None = None

    def of(self, target: Target) -> aiohttp.ClientSession:
        """Where the address is a tenant's choice, one that connects to public addresses alone."""
        return self.guarded() if target.is_own_address else self.session()

    def guarded(self) -> aiohttp.ClientSession:
        if self._guarded is None:
            self._guarded = guarded_session(allowed=self._allowed_hosts, read_bufsize=READ_BUFFER_BYTES)
        return self._guarded

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=DNS_CACHE_S)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                trust_env=self._trust_env,
                auto_decompress=True,
                read_bufsize=READ_BUFFER_BYTES,
            )
        return self._session

    async def close(self) -> None:
        for session in (self._session, self._guarded):
            if session is not None:
                await session.close()
        self._session = self._guarded = None
