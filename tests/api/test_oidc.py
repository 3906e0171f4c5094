"""Signing in at an external provider: its tokens open what its user may, in the tenant that the operator says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway import Gateway, running_gateway
from oidc_provider import AUDIENCE, Provider, SigningKey, running_provider

pytestmark = pytest.mark.requirement("SEC-2")


class Sso:
    def __init__(self, gateway: Gateway, provider: Provider) -> None:
        self.gateway = gateway
        self.provider = provider

    def tenant(self, subject: str, role: str = "editor") -> tuple[str, str]:
        """A fresh tenant's slug, and the id of its user with this `sub`."""
        slug = f"sso-{uuid4().hex[:8]}"
        with self.gateway.server.admin() as api:
            tenant = api.post("/api/v1/tenants", json={"name": "x", "slug": slug}).json()["id"]
            person = {"tenant_id": tenant, "email": "p@sso.example", "role": role, "external_id": subject}
            return slug, api.post("/api/v1/users", json=person).raise_for_status().json()["id"]

    def me(self, token: str) -> httpx.Response:
        with self.gateway.http(token) as client:
            return client.get("/api/v1/auth/me")


@pytest.fixture(scope="module")
def sso(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sso]:
    with running_provider() as provider:
        env = {
            "LOCAL_MODELS_ENABLED": "false",
            "OIDC_ISSUER": provider.url,
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_TENANT_CLAIM": "org",
        }
        with running_gateway(tmp_path_factory.mktemp("oidc"), env) as gateway:
            yield Sso(gateway, provider)


def test_the_providers_user_is_ours(sso: Sso) -> None:
    """With its role here, whatever the token says of roles; no session of ours to end."""
    slug, user = sso.tenant("anna")
    token = sso.provider.issue(sub="anna", org=slug, role="admin", permissions=["platform:manage"], tenant_id="x")
    me = sso.me(token).json()
    assert (me["user"]["id"], me["user"]["role"]) == (user, "editor")
    assert "users:manage" not in me["permissions"]
    with sso.gateway.http(token) as client:
        assert client.get("/v1/models").status_code == 200
        assert client.post("/api/v1/auth/logout").status_code == 403


def test_the_same_name_elsewhere_is_another_user(sso: Sso) -> None:
    """The tenant is what the provider signed: a tenant that enters another's `sub` gains nothing."""
    (first, anna), (second, other) = sso.tenant("same"), sso.tenant("same", "viewer")
    assert sso.me(sso.provider.issue(sub="same", org=first)).json()["user"]["id"] == anna
    assert sso.me(sso.provider.issue(sub="same", org=second)).json()["user"]["id"] == other
    for claims in ({"org": "nowhere"}, {"org": ""}, {"org": None}, {"org": f"{first}\nx"}, {"sub": "nobody"}):
        refused: Any = sso.me(sso.provider.issue(**{"sub": "same", "org": first, **claims}))
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_api_key")


def test_forged_tokens_are_refused(sso: Sso) -> None:
    """Another's signature, audience, issuer or time; each in the words of every bad credential."""
    slug, _ = sso.tenant("anna")
    now = int(time.time())
    for forged in (
        sso.provider.issue(sub="anna", org=slug, key=SigningKey()),
        sso.provider.issue(sub="anna", org=slug, aud="else"),
        sso.provider.issue(sub="anna", org=slug, iss="https://evil.example"),
        sso.provider.issue(sub="anna", org=slug, exp=now - 60),
        sso.provider.issue(sub="anna", org=slug, nbf=now + 600),
    ):
        assert sso.me(forged).status_code == 401
    assert sso.me(sso.provider.issue(sub="anna", org=slug)).status_code == 200


def test_who_is_disabled_here_is_out_within_a_second(sso: Sso) -> None:
    """Though the provider's token is good for minutes."""
    slug, user = sso.tenant("anna")
    token = sso.provider.issue(sub="anna", org=slug)
    assert sso.me(token).status_code == 200
    with sso.gateway.server.admin() as api:
        assert api.patch(f"/api/v1/users/{user}", json={"disabled": True}).status_code == 200
    deadline = time.monotonic() + 1.2
    while sso.me(token).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sso.me(token).status_code == 401


def test_a_provider_away_is_no_outage_for_those_it_named(sso: Sso) -> None:
    """Its keys are remembered; our own keys have nothing to do with it."""
    slug, _ = sso.tenant("anna")
    assert sso.me(sso.provider.issue(sub="anna", org=slug)).status_code == 200
    sso.provider.is_away = True
    try:
        assert sso.me(sso.provider.issue(sub="anna", org=slug, jti="2")).status_code == 200
        assert sso.me(sso.gateway.key).status_code == 200
    finally:
        sso.provider.is_away = False
