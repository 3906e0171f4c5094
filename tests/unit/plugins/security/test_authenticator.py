"""From a header to a principal, or to one refusal that tells nothing."""

from __future__ import annotations

import uuid

import pytest

from plugins.contract.access_tokens import AccessTokens
from plugins.contract.credentials import CREDENTIAL_NEEDED, generate_key, key_handle, session_handle
from plugins.contract.errors import AuthenticationFailed, RetryableError, SettingsError
from plugins.contract.nulls import NullChangeFeed
from plugins.contract.principal import Identity, KeyId, Principal, TenantId
from plugins.security.authenticator import Authenticator
from plugins.security.config import AdminSettings, SecuritySettings, load
from plugins.security.identities import Identities
from plugins.security.tokens import Tokens
from unit.plugins.harness import FakeClock, FakeIdentityLookup, RecordingMeter

ADMIN_KEY = "0123456789abcdef0123456789abcdef"
KEY = generate_key()
CALLER = Principal(tenant_id=TenantId(uuid.uuid4()), key_id=KeyId(uuid.uuid4()))

pytestmark = pytest.mark.requirement("SEC-2")


class World:
    def __init__(self, record: Identity | None = None) -> None:
        self.lookup = FakeIdentityLookup({} if record is None else {key_handle(KEY.sha256): record})
        self.clock = FakeClock()
        self.meter = RecordingMeter()
        decisions = self.meter.counter("decisions", "", ("result",))
        self.identities = Identities(self.lookup, NullChangeFeed(), SecuritySettings())
        self.tokens = AccessTokens("s" * 32, ttl_s=60, now=self.clock)
        tokens = Tokens(self.tokens, None, None)
        self.authenticator = Authenticator(ADMIN_KEY, self.identities, tokens, decisions, self.clock)

    async def ask(self, *values: str) -> Principal:
        return await self.authenticator.authenticate(
            [(b"host", b"h"), *((b"Authorization", v.encode()) for v in values)]
        )


async def test_a_valid_key_is_its_records_principal() -> None:
    """The tenant comes from the credential."""
    world = World(Identity(principal=CALLER))
    assert await world.ask(f"Bearer {KEY.key}") is CALLER
    assert await world.ask(f"bearer  {KEY.key} ") is CALLER
    assert world.meter.total["decisions", "key"] == 2


async def test_the_administrators_key_belongs_to_no_tenant() -> None:
    """It is not looked up, so it works while the database is away."""
    world = World()
    world.lookup.failing = RetryableError("away")
    principal = await world.ask(f"Bearer {ADMIN_KEY}")
    assert principal.is_platform_admin
    assert principal.tenant_id is None
    assert world.lookup.asked == []


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("",),
        (KEY.key,),
        ("Bearer",),
        ("Bearer ",),
        (f"Basic {KEY.key}",),
        (f"Bearer {KEY.key}x",),
        (f"Bearer {KEY.key[:-1]}",),
        (f"Bearer {generate_key().key}",),
        (f"Bearer {ADMIN_KEY}0",),
        (f"Bearer {ADMIN_KEY[:-1]}",),
        (f"Bearer {KEY.key}", f"Bearer {ADMIN_KEY}"),
        ("Bearer " + "a" * 10_000,),
        ("Bearer sk-wattos-" + "ä" * 43,),
    ],
)
async def test_anything_else_is_refused_with_one_message(values: tuple[str, ...]) -> None:
    """No, malformed, unknown and ambiguous credentials are not told apart."""
    world = World(Identity(principal=CALLER))
    with pytest.raises(AuthenticationFailed) as caught:
        await world.ask(*values)
    assert caught.value.message == CREDENTIAL_NEEDED
    assert world.meter.total["decisions", "refused"] == 1


async def test_a_revoked_key_is_refused() -> None:
    """Revoked is refused like unknown."""
    world = World(Identity(principal=CALLER, revoked=True))
    with pytest.raises(AuthenticationFailed, match=CREDENTIAL_NEEDED):
        await world.ask(f"Bearer {KEY.key}")


async def test_a_key_ends_at_its_expiry_to_the_second() -> None:
    """`expires_at` is the first moment at which the key no longer works."""
    world = World(Identity(principal=CALLER, expires_at=1_060.0))
    world.clock.now_s = 1_059.9
    assert await world.ask(f"Bearer {KEY.key}") is CALLER
    world.clock.now_s = 1_060.0
    with pytest.raises(AuthenticationFailed, match=CREDENTIAL_NEEDED):
        await world.ask(f"Bearer {KEY.key}")


async def test_authentication_is_closed_while_keys_cannot_be_checked() -> None:
    """A database that is away opens nothing, and does not call a valid key invalid."""
    world = World(Identity(principal=CALLER))
    world.lookup.failing = RetryableError("away")
    with pytest.raises(RetryableError, match="away"):
        await world.ask(f"Bearer {KEY.key}")
    assert world.meter.total["decisions", "unavailable"] == 1


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "ADMIN_KEY is not set"),
        ({"ADMIN_KEY": ""}, "ADMIN_KEY is not set"),
        ({"ADMIN_KEY": "s3cret" * 5}, "ADMIN_KEY=… cannot be used.*32"),
        ({"ADMIN_KEY": "s3cret " * 5}, "ADMIN_KEY=… cannot be used.*visible ASCII"),
        ({"ADMIN_KEY": "s3cretä" * 5}, "ADMIN_KEY=… cannot be used.*visible ASCII"),
        ({"ADMIN_KEY": ADMIN_KEY, "PLUGINS_SECURITY_KEY_CACHE_MAX_AGE_S": "60"}, "KEY_CACHE_MAX_AGE_S"),
    ],
)
def test_start_is_refused_without_a_usable_admin_key(env: dict[str, str], said: str) -> None:
    """At least 32 characters that a header can carry; the value is never shown."""
    with pytest.raises(SettingsError, match=said) as caught:
        load(env)
    assert "s3cret" not in caught.value.message


def test_the_admin_key_is_not_shown_with_its_settings() -> None:
    """Neither by `repr` nor by rich."""
    settings = AdminSettings(admin_key=ADMIN_KEY)
    assert ADMIN_KEY not in repr(settings)
    assert ADMIN_KEY not in str(settings.__rich_repr__())


async def test_a_key_may_stand_in_x_api_key() -> None:
    """Where Anthropic's clients put it; beside another credential it is ambiguous."""
    world = World(Identity(principal=CALLER))
    key, admin = (b"x-api-key", KEY.key.encode()), (b"authorization", f"Bearer {ADMIN_KEY}".encode())
    assert await world.authenticator.authenticate([key]) is CALLER
    for ambiguous in ([key, admin], [key, key], [(b"x-api-key", b"")]):
        with pytest.raises(AuthenticationFailed):
            await world.authenticator.authenticate(ambiguous)


async def test_when_a_key_was_last_used_is_told_now_and_then() -> None:
    """Not with each request; what could not be told is told the next time."""
    world = World(Identity(principal=CALLER))
    world.clock.now_s = 1_000.0
    await world.ask(f"Bearer {KEY.key}")
    world.clock.now_s = 1_001.0
    await world.ask(f"Bearer {KEY.key}")
    assert world.lookup.uses == {}
    world.lookup.failing = RetryableError("away")
    await world.identities.tell_uses()
    world.lookup.failing = None
    await world.identities.tell_uses()
    assert world.lookup.uses == {CALLER.key_id: 1_001.0}


async def test_an_access_token_is_its_sessions_principal() -> None:
    """It says which session; who that is, and whether it lives, is looked up. A session has no key that was used."""
    session, user = uuid.uuid4(), Principal(tenant_id=TenantId(uuid.uuid4()), user_id=uuid.uuid4())
    world = World()
    world.clock.now_s = 1_000.0
    world.lookup.records[session_handle(session)] = Identity(principal=user)
    token = world.tokens.issue(session, uuid.uuid4())
    assert await world.ask(f"Bearer {token}") is user
    assert await world.ask(f"Bearer {token}") is user
    assert (world.meter.total["decisions", "user"], world.identities.uses) == (2, {})
    world.clock.now_s = 1_066.0
    with pytest.raises(AuthenticationFailed):
        await world.ask(f"Bearer {token}")
