"""Addresses that a tenant chose: public ones alone, in whatever spelling, wherever a name leads, whenever."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from app.outbound import AddressRefused, checked_url, guarded_session, is_public

pytestmark = pytest.mark.requirement("SEC-2")

PUBLIC = ("8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:82b::200e")

NOT_PUBLIC = (
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
    *("100.64.0.1", "0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.0.1", "192.0.2.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001::1", "fe80::1", "fe80::1%eth0", "fec0::1"),
    *("fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::ffff:0:127.0.0.1", "3fff::1", "100::1"),
    *("", "localhost", "127.1", "1.2.3", "1.2.3.4.5", "٨.٨.٨.٨"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    """Of both versions."""
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_all_others_are_not(address: str) -> None:
    """Loopback, private, link-local and metadata, shared, reserved, translated ones; and what is no address."""
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://API.Example.org:8443/v1/", "https://api.example.org:8443/v1"),
        ("https://8.8.8.8/v1", "https://8.8.8.8/v1"),
        ("https://[2606:4700:4700::1111]/v1", "https://[2606:4700:4700::1111]/v1"),
        ("https://münchen.example/v1", "https://xn--mnchen-3ya.example/v1"),
    ],
)
def test_public_addresses_are_kept(url: str, kept: str) -> None:
    """In one spelling."""
    assert checked_url(url, param="base_url") == kept


@pytest.mark.parametrize(
    "url",
    [
        *("http://api.openai.com/v1", "ftp://a.example", "file:///etc/passwd", "gopher://a.example", "//a.example", ""),
        *("https://", "https:///v1", "https://user:pass@a.example", "https://a.example/?q=1", "https://a.example/#x"),
        *(
            "https://a.example:22/",
            "https://a.example:25/",
            "https://a.example:99999/",
            "https://a.example\\@b.example",
        ),
        *(
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://db.internal/",
            "https://nas.local",
        ),
        *("https://wattos/", "https://metadata.google.internal/", "https://2130706433/", "https://0x7f000001/"),
        *("https://0177.0.0.1/", "https://127.1/", "https://127.0.0.1./", "https://[::1]/", "https://[::ffff:7f00:1]/"),
        *("https://[fe80::1%25eth0]/", "https://１２７.0.0.1/", "https://127。0。0。1/", "https://169.254.169.254/"),
        *("https://%31%32%37.0.0.1/", "https://a.example\r\nhost: b/", "https://a b.example/", "https://" + "a" * 2050),
        *("javascript:alert(1)", "https://a.example\x00.b.example/", "https://①②⑦.0.0.1/", "https://0x7f.1/"),
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    """Before anything is connected to; the message never tells where it would lead."""
    with pytest.raises(AddressRefused) as refused:
        checked_url(url, param="base_url")
    assert refused.value.param == "base_url"
    assert refused.value.reason == "address_refused"


def test_an_operator_may_let_through_names_and_networks() -> None:
    """A model server inside the network, also without TLS; and what is beside it is refused as ever."""
    allowed = frozenset({"vllm.intern.example", "10.20.0.0/16"})
    for url in ("http://vllm.intern.example:8000/v1", "http://10.20.3.4:8000/v1", "https://10.20.3.4/v1"):
        assert checked_url(url, param="base_url", allowed=allowed) == url
    for url in ("http://10.21.3.4/v1", "http://a.vllm.intern.example/v1", "http://vllm.intern.example.evil.example/"):
        with pytest.raises(AddressRefused):
            checked_url(url, param="base_url", allowed=allowed)


class Answers(AbstractResolver):
    """A name service that says what it is told to, one answer after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = [*answers]
        self.n_asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self._answers[min(self.n_asked, len(self._answers) - 1)]
        self.n_asked += 1
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        pass


class Inside:
    """A server on loopback that nobody from outside may reach."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.n_reached = 0


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    async def answer(request: web.Request) -> web.Response:
        made.n_reached += 1
        if request.path == "/away":
            raise web.HTTPFound(f"http://127.0.0.1:{made.port}/secret")
        return web.Response(text="secret")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made = Inside(runner.addresses[0][1])
    yield made
    await runner.cleanup()


async def fetched(session: aiohttp.ClientSession, url: str) -> str:
    async with session, session.get(url) as response:
        return await response.text()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0.0.0.0", "localhost"],
)
async def test_literal_addresses_inside_are_not_connected_to(inside: Inside, host: str) -> None:
    """Where no resolver is asked, too."""
    with pytest.raises((aiohttp.ClientError, OSError)):
        await fetched(guarded_session(), f"http://{host}:{inside.port}/")
    assert inside.n_reached == 0


@pytest.mark.parametrize(
    "answers",
    [[["127.0.0.1"]], [["8.8.8.8", "127.0.0.1"]], [["127.0.0.1", "8.8.8.8"]], [["::1"]], [["169.254.169.254"]], [[]]],
    ids=["inside", "both", "both, inside first", "version 6", "metadata", "nowhere"],
)
async def test_a_name_that_leads_inside_is_not_connected_to(inside: Inside, answers: list[list[str]]) -> None:
    """One address of several is enough."""
    with pytest.raises((aiohttp.ClientError, OSError)):
        await fetched(guarded_session(inner=Answers(*answers)), f"http://rebind.example:{inside.port}/")
    assert inside.n_reached == 0


async def test_what_was_checked_is_what_is_connected_to(inside: Inside) -> None:
    """DNS rebinding: a name is resolved once a connection, and what it says later is checked as well."""
    names = Answers(["203.0.113.1"], ["127.0.0.1"])
    session = guarded_session(inner=names, allowed=frozenset({"203.0.113.0/24"}))
    timeout = aiohttp.ClientTimeout(total=0.2)
    async with session:
        for _ in range(3):
            with pytest.raises((aiohttp.ClientError, OSError)):
                await session.get(f"http://rebind.example:{inside.port}/", timeout=timeout)
    assert names.n_asked >= 2
    assert inside.n_reached == 0


async def test_nobody_is_followed_elsewhere(inside: Inside) -> None:
    """A redirect ends the request, even from where one may go to where one may go."""
    allowed = frozenset({"127.0.0.0/8"})
    with pytest.raises(aiohttp.ClientError, match="followed"):
        await fetched(guarded_session(allowed=allowed), f"http://127.0.0.1:{inside.port}/away")
    assert inside.n_reached == 1


async def test_what_an_operator_lets_through_is_reached(inside: Inside) -> None:
    """By name, whatever it leads to, and by network."""
    url = f"http://vllm.example:{inside.port}/"
    for allowed in ({"vllm.example"}, {"127.0.0.0/8"}):
        session = guarded_session(allowed=frozenset(allowed), inner=Answers(["127.0.0.1"]))
        assert await fetched(session, url) == "secret"
