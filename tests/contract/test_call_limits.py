"""The `CallLimits` port: alone, shared through Valkey, and null."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import pytest

from plugins.contract.capabilities import Capabilities
from plugins.contract.errors import RateLimited
from plugins.contract.limits import Limit
from plugins.contract.nulls import NullCallLimits, NullChangeFeed
from plugins.contract.ports import CallLimits, Slot
from plugins.security.config import SecuritySettings
from plugins.security.limits.entrance import Limits
from unit.plugins.harness import RecordingMeter
from unit.plugins.security.limits_world import State
from valkey_server import ValkeyServer

pytestmark = pytest.mark.requirement("SEC-1")

TENANT, USER, KEY, OTHER_KEY = (uuid4() for _ in range(4))


class Lookup:
    """The `LimitLookup` port on a list."""

    def __init__(self) -> None:
        self.limits: list[Limit] = []

    async def of(self, tenant_id: UUID) -> Sequence[Limit]:
        return self.limits if tenant_id == TENANT else ()


class Case:
    """An implementation, and what its limits are set by."""

    def __init__(self, shared: State | None = None) -> None:
        self.lookup = Lookup()
        self.meter = RecordingMeter()
        self.limits = Limits(SecuritySettings(key_cache_max_age_s=0))
        self.limits.bind(
            Capabilities(limit_lookup=self.lookup, change_feed=NullChangeFeed(), shared_state=shared, meter=self.meter)
        )
        self.port: CallLimits = self.limits

    async def admit(self, n_tokens: int = 10, key_id: UUID | None = KEY) -> Slot:
        return await self.port.admit(tenant_id=TENANT, user_id=USER, key_id=key_id, n_tokens=n_tokens)


@pytest.fixture(params=["alone", "shared"])
async def case(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[Case]:
    state = State(valkey.url) if request.param == "shared" else None
    if state is not None:
        await state.wipe()
    made = Case(state)
    async with made.limits.serving():
        yield made
    if state is not None:
        await state.close()


async def test_off_lets_everything_in() -> None:
    """And costs nothing to close, often as one likes."""
    slot = await NullCallLimits().admit(tenant_id=TENANT, user_id=None, key_id=None, n_tokens=10**15)
    slot.close(5)
    slot.close(None)


async def test_without_limits_everything_is_let_in(case: Case) -> None:
    """Of the platform's administrator too, who belongs to no tenant."""
    (await case.admit(10**15)).close(None)
    (await case.port.admit(tenant_id=None, user_id=None, key_id=None, n_tokens=10**15)).close(1)


async def test_tokens_are_reserved_and_corrected(case: Case) -> None:
    """What was expected counts until it is known what was used."""
    case.lookup.limits = [Limit(scope="tenant", scope_id=TENANT, tokens_per_minute=100)]
    first = await case.admit(80)
    with pytest.raises(RateLimited) as refused:
        await case.admit(30)
    assert 1 <= (refused.value.retry_after_s or 0) <= 60
    assert [(state.unit, state.limit) for state in refused.value.limits] == [("tokens", 100)]
    first.close(20)
    first.close(0)
    second = await case.admit(30)
    second.close(None)
    with pytest.raises(RateLimited):
        await case.admit(51)
    (await case.admit(50)).close(90)
    with pytest.raises(RateLimited):
        await case.admit(1)


async def test_what_no_minute_can_hold_is_said_to_be_so(case: Case) -> None:
    """Waiting would not help."""
    case.lookup.limits = [Limit(scope="key", scope_id=KEY, tokens_per_minute=100)]
    with pytest.raises(RateLimited, match=r"may take 101 tokens.* 100 a minute: ask for less"):
        await case.admit(101)


async def test_calls_at_once_are_limited_until_they_end(case: Case) -> None:
    """Each end makes room for one."""
    case.lookup.limits = [Limit(scope="key", scope_id=KEY, max_concurrency=2)]
    slots = [await case.admit(), await case.admit()]
    with pytest.raises(RateLimited, match="2 model calls at once"):
        await case.admit()
    await case.admit(key_id=OTHER_KEY)
    slots[0].close(None)
    slots[0].close(None)
    (await case.admit()).close(1)
    slots.append(await case.admit())
    with pytest.raises(RateLimited):
        await case.admit()


async def test_a_refused_call_uses_up_nothing(case: Case) -> None:
    """Whichever of its limits refuses."""
    case.lookup.limits = [
        Limit(scope="tenant", scope_id=TENANT, tokens_per_minute=1_000, max_concurrency=8),
        Limit(scope="user", scope_id=USER, tokens_per_minute=500),
        Limit(scope="key", scope_id=KEY, max_concurrency=1),
    ]
    held = await case.admit(100)
    for _ in range(20):
        with pytest.raises(RateLimited, match="this key"):
            await case.admit(100)
    held.close(None)
    with pytest.raises(RateLimited, match="this user"):
        await case.admit(401)
    (await case.admit(400)).close(None)
    (await case.port.admit(tenant_id=TENANT, user_id=None, key_id=None, n_tokens=500)).close(None)
    with pytest.raises(RateLimited, match="this tenant"):
        await case.port.admit(tenant_id=TENANT, user_id=None, key_id=None, n_tokens=1)


@pytest.mark.requirement("OBS-4")
async def test_decisions_are_counted_by_kind_and_scope(case: Case) -> None:
    """Refused by the one that refuses."""
    case.lookup.limits = [
        Limit(scope="tenant", scope_id=TENANT, tokens_per_minute=1_000),
        Limit(scope="key", scope_id=KEY, max_concurrency=1),
    ]
    await case.admit()
    with pytest.raises(RateLimited):
        await case.admit()
    for source in case.meter.sources:
        await source()
    name = "rate_limit_decisions_total"
    assert case.meter.total[name, "tokens", "tenant", "allowed"] == 1
    assert case.meter.total[name, "concurrency", "key", "allowed"] == 1
    assert case.meter.total[name, "concurrency", "key", "refused"] == 1
