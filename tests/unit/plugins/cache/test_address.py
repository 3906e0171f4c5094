"""VALKEY_URL: as other clients write it, refused in one line that does not repeat it, verified by TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from plugins.cache.address import address_of
from plugins.cache.config import ValkeySettings
from plugins.cache.plugin import CachePlugin
from plugins.cache.shared import ValkeyState
from plugins.contract.capabilities import Capabilities
from plugins.contract.env import load_settings
from plugins.contract.errors import RetryableError, SettingsError
from plugins.contract.redaction import Redactor, secrets_of
from valkey_server import ValkeyServer

PASSWORD = "hunter2-hunter2/@"
QUOTED = "hunter2-hunter2%2F%40"


@pytest.mark.parametrize(
    ("url", "is_tls", "expected"),
    [
        ("redis://cache", False, ("cache", 6379, "", None, None, 0)),
        ("valkey://cache:6380/4", False, ("cache", 6380, "", None, None, 4)),
        (f"redis://:{QUOTED}@cache/0", False, ("cache", 6379, "", None, PASSWORD, 0)),
        (f"rediss://us%40er:{QUOTED}@cache?db=2", True, ("cache", 6379, "", "us@er", PASSWORD, 2)),
        ("valkeys://[::1]:7", True, ("::1", 7, "", None, None, 0)),
        ("unix:///run/valkey%20.sock?db=1", False, ("", 6379, "/run/valkey .sock", None, None, 1)),
        (f"unix://user:{QUOTED}@/run/v.sock", False, ("", 6379, "/run/v.sock", "user", PASSWORD, 0)),
    ],
)
def test_an_address_is_read_in_all_its_forms(url: str, is_tls: bool, expected: tuple[object, ...]) -> None:
    """User and password are percent-decoded; without a port it is Valkey's own."""
    found = address_of(url)
    assert (found.host, found.port, found.path, found.username, found.password, found.database) == expected
    assert (found.tls is not None) == is_tls
    assert load_settings(ValkeySettings, {"VALKEY_URL": url}).valkey_url == url
    if found.tls is not None:
        assert (found.tls.check_hostname, found.tls.verify_mode) == (True, ssl.CERT_REQUIRED)


@pytest.mark.parametrize(
    "url",
    [
        *("cache", "http://cache", "redis://", "redis:///0", "redis://cache:port", "redis://cache:70000"),
        *("redis://cache/two", "redis://cache?timeout=3", "redis://cache?ca_file=/ca", "redis://cache/0#x"),
        *("unix://", "unix://host/run/v.sock", "rediss://cache?ca_file=/does/not/exist", "redis://a b"),
        *(f"redis://:{PASSWORD}@cache", "redis://:hunter2-hunter2#x@cache", "redis://:hunter2-hunter2?x@cache"),
    ],
)
def test_an_address_that_cannot_be_is_refused_without_its_password(url: str) -> None:
    """At start, in one line that names the variable."""
    with pytest.raises(SettingsError) as caught:
        load_settings(ValkeySettings, {"VALKEY_URL": url})
    assert caught.value.message.startswith("VALKEY_URL=")
    assert "hunter2" not in caught.value.message
    assert "\n" not in caught.value.message


def test_an_address_is_never_shown() -> None:
    """Not by `repr`, not in a line of the log that quotes it whole or in parts."""
    url = f"redis://:{QUOTED}@cache"
    settings = load_settings(ValkeySettings, {"VALKEY_URL": url})
    assert "hunter2" not in repr(settings) + repr(address_of(url))
    redactor = Redactor()
    redactor.conceal(secrets_of({"VALKEY_URL": url}))
    for text in (f"cannot reach {url}", f"AUTH {PASSWORD}", f"AUTH {QUOTED}"):
        assert "hunter2" not in redactor.text(text)


def test_without_an_address_nothing_is_shared() -> None:
    """None, and no health check."""
    given = CachePlugin.from_env({}).contribute(Capabilities())
    assert given.shared_state is None
    assert given.health_checks == ()


async def test_tls_takes_the_server_whose_name_and_ca_are_right(tmp_path: Path, valkey: ValkeyServer) -> None:
    """Its CA is named in the address; another name, and a CA that is not known, are refused."""
    async with tls_in_front_of(valkey, tmp_path) as port:
        ca = f"?ca_file={tmp_path}/certificate.pem"
        for url, is_taken in (
            (f"rediss://localhost:{port}{ca}", True),
            (f"valkeys://localhost:{port}/1{ca}", True),
            (f"rediss://127.0.0.1:{port}{ca}", False),
            (f"rediss://localhost:{port}", False),
        ):
            state = ValkeyState(address_of(url), timeout_s=10)
            try:
                if is_taken:
                    assert await state.run("return {ARGV[1]}", [], ["a"]) == [b"a"]
                    assert await state.run("return {ARGV[1]}", [], ["b"]) == [b"b"]
                else:
                    with pytest.raises(RetryableError, match="Valkey cannot be reached"):
                        await state.run("return {ARGV[1]}", [], ["a"])
            finally:
                await state.close()


@contextlib.asynccontextmanager
async def tls_in_front_of(server: ValkeyServer, directory: Path) -> AsyncIterator[int]:
    """The wheel's server speaks no TLS: this ends it, as `localhost`. Yields: the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_certificate(directory))

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(server.host, server.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                sink.write(data)

        ways = [asyncio.create_task(copy(*way)) for way in ((reader, back), (there, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        back.transport.abort()
        writer.transport.abort()

    listener = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await listener.wait_closed()


def _certificate(directory: Path) -> tuple[Path, Path]:
    """Signed by itself, for `localhost`; with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "certificate.pem", directory / "key.pem"
