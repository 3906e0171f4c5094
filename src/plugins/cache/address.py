"""Where a Valkey is, from VALKEY_URL. Does not know the client's library, which is imported only where there is one."""

from __future__ import annotations

import ssl
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from plugins.contract.errors import SettingsError

FORM = (
    "valkey://[user:password@]host[:port][/database], or redis:// alike; with TLS valkeys:// or rediss://, with"
    " ?ca_file=… for a CA of your own; unix://[user:password@]/path[?db=0]"
)
"""As clients of Redis write it; ours alone is `ca_file`."""

DEFAULT_PORT = 6379
"""Valkey's own."""

_PLAIN, _WITH_TLS = ("redis", "valkey"), ("rediss", "valkeys")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A server and who we are there. Never shown, not even by `repr`."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    """Of a Unix socket, instead of host and port."""
    tls: ssl.SSLContext | None = None
    """Verifies certificate and host name. Made once: reading the CAs takes 20 ms."""
    username: str | None = None
    password: str | None = None
    database: int = 0

    def __repr__(self) -> str:
        return "Address(…)"


def address_of(url: str) -> Address:
    """Reads the CAs where there is TLS. Raises: SettingsError, which does not repeat the address."""
    try:
        parts = urlsplit(url)
        parameters = _parameters(parts)
        username, password = (unquote(part) if part else None for part in (parts.username, parts.password))
        if parts.scheme == "unix":
            if not parts.path or parts.hostname:
                raise _wrong("a Unix socket has a path and no host: unix:///run/valkey.sock")
            return Address(
                path=unquote(parts.path),
                username=username,
                password=password,
                database=_database(parameters.get("db", "")),
            )
        if parts.scheme not in (*_PLAIN, *_WITH_TLS) or not parts.hostname:
            raise _wrong(f"it takes {FORM}")
        return Address(
            host=unquote(parts.hostname),
            port=parts.port or DEFAULT_PORT,
            tls=_tls(parameters.get("ca_file")) if parts.scheme in _WITH_TLS else None,
            username=username,
            password=password,
            database=_database(parameters.get("db") or parts.path.strip("/")),
        )
    except ValueError:  # of urlsplit or its port: its text may quote the password
        raise _wrong("it is no address; percent-encode what is special in a password, as %2F for /") from None


def _parameters(parts: SplitResult) -> dict[str, str]:
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = {"db", "ca_file"} if parts.scheme in _WITH_TLS else {"db"}
    if parts.fragment or not parameters.keys() <= known:
        raise _wrong("of parameters it takes db, and with TLS ca_file; percent-encode ? and # in a password")
    return parameters


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()):
        raise _wrong("a database is a number: redis://host/0")
    return int(text)


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise _wrong(f"ca_file cannot be read ({type(exc).__name__})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _wrong(why: str) -> SettingsError:
    return SettingsError(f"VALKEY_URL=… cannot be used: {why}")
