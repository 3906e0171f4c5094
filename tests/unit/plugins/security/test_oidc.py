"""Tokens of an external provider: whose signature counts, and that of nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oidc_provider import AUDIENCE, Kind, Provider, SigningKey, running_provider
from plugins.contract.errors import RetryableError
from plugins.security.jwks import ASK_AGAIN_S, FRESH_S, STALE_S
from plugins.security.oidc import ExternalIdentity, OidcVerifier
from unit.plugins.harness import FakeClock, eventually

pytestmark = pytest.mark.requirement("SEC-2")


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.rotate()
    running.n_fetches, running.is_away, running.says_issuer = 0, False, running.url
    return running


@pytest.fixture
def monotonic() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def verifier(provider: Provider, monotonic: FakeClock) -> AsyncIterator[OidcVerifier]:
    made = OidcVerifier(issuer=provider.url, audience=AUDIENCE, monotonic=monotonic)
    yield made
    await made.close()


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_a_token_of_the_provider_says_who_it_is(
    provider: Provider, verifier: OidcVerifier, algorithm: Kind
) -> None:
    """With every kind of key that providers use; the second time without asking or checking."""
    provider.rotate(algorithm)
    token = provider.issue().encode()
    for _ in range(2):
        assert await verifier.verify(token) == ExternalIdentity("someone")
    assert provider.n_fetches == 1


def pem(key: SigningKey) -> bytes:
    return bytes(
        key.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def forged(provider: Provider) -> dict[str, str]:
    """Attacks by name."""
    now, thief = int(time.time()), SigningKey()
    good = provider.issue()
    head, body, signature = good.split(".")
    hs = jwt.encode({"iss": provider.url, "aud": AUDIENCE, "sub": "someone", "exp": now + 300}, "x" * 64, "HS256")
    return {
        "alg none": jwt.encode({"iss": provider.url, "aud": AUDIENCE, "sub": "a", "exp": now + 9}, None, "none"),
        "a shared secret": hs,
        "another issuer": provider.issue(iss="https://evil.example"),
        "issuer with a slash": provider.issue(iss=provider.url + "/"),
        "another audience": provider.issue(aud="somebody-else"),
        "no audience": provider.issue(aud=None),
        "expired": provider.issue(exp=now - 60),
        "never expires": provider.issue(exp=None),
        "not yet valid": provider.issue(nbf=now + 600),
        "nobody": provider.issue(sub=None),
        "an empty name": provider.issue(sub=""),
        "a name with a line break": provider.issue(sub="a\nb"),
        "a name without end": provider.issue(sub="a" * 256),
        "another's key under the same id": provider.issue(key=thief, headers={"kid": provider.key.kid}),
        "another's key": provider.issue(key=thief),
        "its own key in the header": provider.issue(key=thief, headers={"jwk": thief.listed}),
        "its own address in the header": provider.issue(key=thief, headers={"jku": "http://127.0.0.1:9/keys"}),
        "kid traversal": provider.issue(key=thief, headers={"kid": "../../../../etc/passwd"}),
        "kid injection": provider.issue(key=thief, headers={"kid": "' or 1=1 --"}),
        "critical extension": provider.issue(headers={"crit": ["x"], "x": 1}),
        "changed body": f"{head}.{jwt.utils.base64url_encode(b'{}').decode()}.{signature}",
        "changed signature": f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "huge": provider.issue(x="x" * 20_000),
    }


with running_provider() as _provider:
    NAMES = [*forged(_provider)]


@pytest.mark.parametrize("name", NAMES)
async def test_forged_tokens_are_nobody(provider: Provider, verifier: OidcVerifier, name: str) -> None:
    """And the true one beside them goes on being taken."""
    assert await verifier.verify(forged(provider)[name].encode()) is None
    assert await verifier.verify(provider.issue().encode()) == ExternalIdentity("someone")


async def test_the_public_key_is_no_secret(provider: Provider, verifier: OidcVerifier) -> None:
    """Algorithm confusion: signed as if what everybody knows were shared with the provider alone."""
    import hashlib
    import hmac

    head = jwt.utils.base64url_encode(f'{{"alg":"HS256","typ":"JWT","kid":"{provider.key.kid}"}}'.encode())
    body = provider.issue().split(".")[1].encode()
    signature = jwt.utils.base64url_encode(hmac.digest(pem(provider.key), head + b"." + body, hashlib.sha256))
    assert await verifier.verify(head + b"." + body + b"." + signature) is None


@pytest.mark.parametrize(
    "change",
    [{"use": "enc"}, {"alg": "RS384"}, {"kty": "oct", "k": "eHh4"}, {"n": "AQAB"}, {"kid": "other"}],
    ids=["for encryption", "another algorithm", "a secret", "no key", "another id"],
)
async def test_a_listed_key_is_used_for_what_it_is_for(
    provider: Provider, verifier: OidcVerifier, change: dict[str, Any]
) -> None:
    """And for nothing else."""
    provider.listed = [{**provider.key.listed, **change}]
    assert await verifier.verify(provider.issue().encode()) is None


async def test_short_rsa_keys_are_not_trusted(provider: Provider, verifier: OidcVerifier) -> None:
    """1,024 bits can be factored."""
    provider.key = SigningKey(bits=1024)
    provider.listed = [provider.key.listed]
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        token = provider.issue().encode()
    assert await verifier.verify(token) is None


async def test_keys_of_another_issuer_are_not_taken(provider: Provider, verifier: OidcVerifier) -> None:
    """A discovery document that says it is someone else's: swapped, or a mistake."""
    provider.says_issuer = "https://evil.example"
    with pytest.raises(RetryableError):
        await verifier.verify(provider.issue().encode())


async def test_a_new_key_is_taken_at_once_and_the_old_one_no_more(
    provider: Provider, verifier: OidcVerifier, monotonic: FakeClock
) -> None:
    """A key id that is not known is reason to ask; what the provider took back is over, remembered or not."""
    old = provider.issue().encode()
    assert await verifier.verify(old) is not None
    provider.rotate("ES256")
    monotonic.now_s += ASK_AGAIN_S
    assert await verifier.verify(provider.issue().encode()) == ExternalIdentity("someone")
    assert await verifier.verify(old) is None
    assert provider.n_fetches == 2


async def test_made_up_key_ids_are_not_made_up_requests(
    provider: Provider, verifier: OidcVerifier, monotonic: FakeClock
) -> None:
    """However many come, the provider is asked once in ten seconds."""
    await verifier.verify(provider.issue().encode())
    thief = SigningKey()
    for _ in range(3):
        monotonic.now_s += ASK_AGAIN_S
        tokens = [provider.issue(key=thief, headers={"kid": f"made-up-{n}"}).encode() for n in range(50)]
        assert await asyncio.gather(*map(verifier.verify, tokens)) == 50 * [None]
    assert provider.n_fetches == 4


async def test_a_provider_that_is_away_is_not_missed_for_a_day(
    provider: Provider, verifier: OidcVerifier, monotonic: FakeClock
) -> None:
    """What it said last holds; then nobody gets in, and may try again."""
    await verifier.verify(provider.issue().encode())
    provider.is_away = True
    monotonic.now_s += STALE_S - 1
    assert await verifier.verify(provider.issue(jti="1").encode()) is not None
    await asyncio.sleep(0.1)
    monotonic.now_s += ASK_AGAIN_S
    with pytest.raises(RetryableError):
        await verifier.verify(provider.issue(jti="2").encode())
    provider.is_away = False
    monotonic.now_s += ASK_AGAIN_S
    assert await verifier.verify(provider.issue(jti="3").encode()) is not None


async def test_keys_are_asked_for_anew_beside_the_requests(
    provider: Provider, verifier: OidcVerifier, monotonic: FakeClock
) -> None:
    """After a quarter of an hour; nobody waits for it."""
    await verifier.verify(provider.issue().encode())
    monotonic.now_s += FRESH_S + 1
    assert await verifier.verify(provider.issue(jti="1").encode()) is not None
    await eventually(lambda: provider.n_fetches == 2)


async def test_a_token_without_an_id_fits_an_only_key(provider: Provider, verifier: OidcVerifier) -> None:
    """With two that would fit, it is nobody's."""
    token = provider.issue(headers={"kid": None}).encode()
    assert await verifier.verify(token) is not None
    provider.listed = [provider.key.listed, SigningKey().listed]
    fresh = OidcVerifier(issuer=provider.url, audience=AUDIENCE)
    assert await fresh.verify(token) is None
    await fresh.close()


async def test_the_tenant_is_what_the_configured_claim_says(provider: Provider) -> None:
    """A token without it is nobody's: it does not fall to a tenant by default."""
    verifier = OidcVerifier(issuer=provider.url, audience=AUDIENCE, tenant_claim="org")
    assert await verifier.verify(provider.issue(org="school").encode()) == ExternalIdentity("someone", "school")
    for wrong in (None, 3, ["school"], {"a": "b"}):
        assert await verifier.verify(provider.issue(org=wrong).encode()) is None
    await verifier.close()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(noise=st.binary(max_size=200), at=st.integers(0, 600))
async def test_noise_is_nobody(provider: Provider, verifier: OidcVerifier, noise: bytes, at: int) -> None:
    """Whatever bytes come, alone or within a true token: no exception but one, and nobody gets in."""
    token = provider.issue().encode()
    changed = token[: at % len(token)] + noise + token[at % len(token) :]
    assert await verifier.verify(noise) is None
    # What is not looked at (the last bits of base64) may differ; then it is the same token.
    assert await verifier.verify(changed) in (None, ExternalIdentity("someone"))
