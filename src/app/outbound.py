"""The one guard on connections to addresses that a tenant chose: public ones alone, and just those that were checked.

A name is resolved once, every address it has is checked, and what was checked is connected to: a name that changes its
mind meanwhile (DNS rebinding) gains nothing. Nobody is followed elsewhere.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from app.errors import InvalidRequest

MAX_URL_CHARS: Final = 2048
USUAL_PORTS: Final = frozenset({80, 443})
FIRST_FREE_PORT: Final = 1024
"""Below it are mail, databases' and other services' ports, which speak no HTTP."""

_NETWORKS_REFUSED: Final = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # Of IPv6 only 2000::/3 is public; what translates to IPv4 hides where it leads.
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
_PUBLIC_IPV6: Final = IPv6Network("2000::/3")
_LOCAL_NAMES: Final = re.compile(r"(?:^|\.)(?:localhost|local|internal|intranet|lan|home|corp|localdomain|home\.arpa)$")
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_NUMERIC: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*")


class AddressRefused(InvalidRequest):
    """The address is not one that we connect to. The message never says where a name leads."""

    code = "address_refused"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.reason = self.code


def is_public(address: str) -> bool:
    """Whether one IP address, in text, is one that everybody on the internet could reach."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and (parsed.scope_id is not None or parsed not in _PUBLIC_IPV6):
        return False
    return not any(parsed.version == network.version and parsed in network for network in _NETWORKS_REFUSED)


class Allowed:
    """What an operator lets through although it is not public: names and networks."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in entries:
            try:
                self._networks.append(ip_network(entry, strict=False))
            except ValueError:
                self._names.add(entry.lower().rstrip("."))

    def has_name(self, host: str) -> bool:
        return host in self._names

    def has_address(self, address: str) -> bool:
        parsed: IPv4Address | IPv6Address
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed.version == network.version and parsed in network for network in self._networks)

    def may_connect(self, host: str, address: str) -> bool:
        return is_public(address) or self.has_name(host) or self.has_address(address)


def checked_url(url: str, *, param: str, allowed: frozenset[str] = frozenset()) -> str:
    """The address as it will be used. Plain HTTP is for hosts that an operator lets through.

    Raises: AddressRefused for anything but a plain address of a host that can be public. Where a name leads is looked
    at when it is connected to.
    """

    def refused(why: str) -> AddressRefused:
        return AddressRefused(f"{param} {why}", param=param)

    if len(url) > MAX_URL_CHARS or not url.isprintable() or " " in url or "\\" in url:
        raise refused("is no address")
    try:
        parsed = URL(url)
        host, port = (parsed.host or "").lower().rstrip("."), parsed.port
    except ValueError:
        raise refused("is no address") from None
    if parsed.scheme not in ("https", "http") or not host:
        raise refused("must begin with https:// and name a host")
    if parsed.user is not None or parsed.password is not None or parsed.raw_fragment or parsed.raw_query_string:
        raise refused("must be without user, password, query and fragment")
    if port is not None and port not in USUAL_PORTS and port < FIRST_FREE_PORT:
        raise refused("has a port that is not one of HTTP")
    exceptions = Allowed(allowed)
    is_excepted = exceptions.has_name(host) or exceptions.has_address(host)
    if parsed.scheme == "http" and not is_excepted:
        raise refused("must begin with https://")
    if not is_excepted and not _can_be_public(host):
        raise refused("is not a public address")
    return str(parsed.with_host(host)).rstrip("/")


def _can_be_public(host: str) -> bool:
    if ":" in host or _NUMERIC.fullmatch(host):  # 2130706433, 0x7f.1 and 127.1 are addresses, too: to the resolver
        return (":" in host and is_public(host)) or (bool(re.fullmatch(r"\d+(?:\.\d+){3}", host)) and is_public(host))
    raw = URL.build(scheme="https", host=host).raw_host or ""
    return bool(_HOST.fullmatch(raw)) and "." in raw and not _LOCAL_NAMES.search(raw)


class GuardedResolver(AbstractResolver):
    """Resolves as another does, and refuses a name if any of its addresses is not public."""

    def __init__(self, allowed: frozenset[str] = frozenset(), inner: AbstractResolver | None = None) -> None:
        self._allowed = Allowed(allowed)
        self._inner = inner or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        name = host.lower().rstrip(".")
        if not found or not all(self._allowed.may_connect(name, one["host"]) for one in found):
            raise OSError(None, "the address is not one that is connected to")
        return found

    async def close(self) -> None:
        await self._inner.close()


class GuardedConnector(aiohttp.TCPConnector):
    """Also asks for hosts that are addresses already: those no resolver is asked about."""

    def __init__(self, *, allowed: frozenset[str] = frozenset(), inner: AbstractResolver | None = None) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # one of its parameters has no type
            resolver=GuardedResolver(allowed, inner), use_dns_cache=False, limit=0, keepalive_timeout=30.0
        )
        self._may = Allowed(allowed)

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109  # as it is called
        host = (req.url.raw_host or "").lower().rstrip(".")
        is_address = ":" in host or _NUMERIC.fullmatch(host) is not None
        if is_address and not self._may.may_connect(host, host):
            raise OSError(None, "the address is not one that is connected to")
        connection = await super().connect(req, traces, timeout)
        peer = connection.transport.get_extra_info("peername") if connection.transport else None
        if peer is not None and not self._may.may_connect(host, str(peer[0])):
            connection.close()
            raise OSError(None, "the address is not one that is connected to")
        return connection


async def _refuse_redirects(
    _session: aiohttp.ClientSession, _context: Any, params: aiohttp.TraceRequestRedirectParams
) -> None:
    params.response.close()
    raise aiohttp.ClientError("nobody is followed elsewhere")


def guarded_session(
    *,
    allowed: frozenset[str] = frozenset(),
    inner: AbstractResolver | None = None,
    read_bufsize: int = 1 << 16,
) -> aiohttp.ClientSession:
    """A session that connects to public addresses alone. `allowed`: names and networks that are excepted."""
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_redirects)
    return aiohttp.ClientSession(
        connector=GuardedConnector(allowed=allowed, inner=inner),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        trust_env=False,
        read_bufsize=read_bufsize,
        trace_configs=[tracing],
    )
