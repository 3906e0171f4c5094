"""The rules of tenants and keys, on a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.accounts import roles
from app.accounts.identities import DatabaseIdentityLookup
from app.accounts.model import ApiKey, Tenant
from app.accounts.passwords import Passwords
from app.accounts.service import AccountsService
from app.accounts.users.schemas import UserCreate
from app.accounts.users.service import UsersService
from app.audit.model import COMMAND_LINE
from app.commands import PLATFORM
from app.database.engine import Database
from app.database.paging import PageRequest
from app.errors import Conflict, InvalidRequest, NotFound
from app.ids import new_id
from plugins.contract.credentials import KEY_PREFIX, hash_key, key_handle
from plugins.contract.errors import PermissionDenied, RetryableError
from plugins.contract.permissions import Permission
from plugins.contract.principal import DEFAULT_TENANT_ID, KeyId, Principal, TenantId

SOON = timedelta(minutes=1)


def key_handle_of(key: str) -> bytes:
    return key_handle(hash_key(key))


@pytest.fixture
def accounts(database: Database) -> AccountsService:
    return AccountsService(database)


@pytest.fixture
async def tenant(accounts: AccountsService) -> Tenant:
    return await accounts.create_tenant(COMMAND_LINE, name="  A school ", slug="school")


@pytest.mark.parametrize("slug", ["", "-x", "x-", "x--y", "X", "ä", "x y", "x\n", "x" * 64, "x-" * 32 + "x"])
async def test_a_slug_that_cannot_be_one_is_refused(slug: str) -> None:
    """Before the database is asked; also without the wire's schema, as the command line calls it."""
    with pytest.raises(InvalidRequest) as refused:
        await AccountsService(Database()).create_tenant(COMMAND_LINE, name="x", slug=slug)
    assert refused.value.param == "slug"


async def test_a_slug_may_be_as_long_as_a_label(accounts: AccountsService) -> None:
    """1 to 63 characters."""
    for slug in ("x", "0", "a-b", "x" * 63):
        assert (await accounts.create_tenant(COMMAND_LINE, name="x", slug=slug)).slug == slug


async def test_a_taken_slug_is_a_conflict(accounts: AccountsService, tenant: Tenant) -> None:
    """Also for a tenant that the new one's transaction cannot see."""
    for taken in (tenant.slug, "default"):
        with pytest.raises(Conflict):
            await accounts.create_tenant(COMMAND_LINE, name="another", slug=taken)


async def test_names_are_kept_without_space_around(accounts: AccountsService, tenant: Tenant) -> None:
    """A name of nothing but space is none, for tenants and for keys."""
    assert tenant.name == "A school"
    with pytest.raises(InvalidRequest):
        await accounts.create_tenant(COMMAND_LINE, name=" \t", slug="x")
    with pytest.raises(InvalidRequest):
        await accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name=" ")
    assert (await accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name=" lab ")).record.name == "lab"


async def test_the_default_tenant_is_a_tenant_as_any_other(accounts: AccountsService) -> None:
    """It is found by id and slug, is the last of the list, and may have keys."""
    found = await accounts.get_tenant(DEFAULT_TENANT_ID)
    assert found == await accounts.find_tenant("default")
    assert (await accounts.list_tenants(PageRequest())).items[-1] == found
    await accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=DEFAULT_TENANT_ID, name="x")


async def test_pages_show_each_once_newest_first(accounts: AccountsService) -> None:
    """In both orders, also when something is made between two pages."""
    made = [(await accounts.create_tenant(COMMAND_LINE, name="x", slug=f"t-{n}")).id for n in range(5)]
    first = await accounts.list_tenants(PageRequest(limit=2))
    await accounts.create_tenant(COMMAND_LINE, name="x", slug="later")
    second = await accounts.list_tenants(PageRequest(limit=4, after=first.items[-1].id))
    assert [t.id for t in (*first.items, *second.items)] == [*made[::-1], DEFAULT_TENANT_ID]
    assert (first.has_more, second.has_more) == (True, False)
    upwards = await accounts.list_tenants(PageRequest(limit=3, order="asc", after=DEFAULT_TENANT_ID))
    assert [t.id for t in upwards.items] == made[:3]


async def test_unknown_ids_are_not_found(accounts: AccountsService) -> None:
    """Whatever is asked of them."""
    for asked in (
        accounts.get_tenant(new_id()),
        accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=new_id(), name="x"),
        accounts.list_keys(new_id(), PageRequest()),
        accounts.revoke_key(COMMAND_LINE, None, new_id()),
    ):
        with pytest.raises(NotFound):
            await asked
    assert await accounts.find_tenant("nobody") is None


async def test_a_key_is_kept_as_its_hash_alone(accounts: AccountsService, database: Database, tenant: Tenant) -> None:
    """What the database holds opens nothing."""
    issued = await accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name="lab")
    assert issued.key.startswith(KEY_PREFIX)
    assert issued.key not in repr(issued.record)
    found = await DatabaseIdentityLookup(database).find(key_handle_of(issued.key))
    assert found is not None
    assert found.principal.key_id == issued.record.id
    assert await DatabaseIdentityLookup(database).find(key_handle_of(issued.record.prefix)) is None


async def test_the_look_up_tells_all_that_a_key_may(
    accounts: AccountsService, database: Database, tenant: Tenant
) -> None:
    """Tenant, user, models and expiry; never the rights of the platform's administrator."""
    users = UsersService(database, Passwords())
    user_id = (await users.create(PLATFORM, COMMAND_LINE, tenant.id, UserCreate(email="a@b.example", role="editor"))).id
    expires_at = datetime.now(UTC) + SOON
    key = await accounts.create_key(
        PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name="x", user_id=user_id, models=["chat"], expires_at=expires_at
    )
    found = await DatabaseIdentityLookup(database).find(key_handle_of(key.key))
    assert found is not None
    assert found.principal == Principal(
        tenant_id=TenantId(tenant.id),
        key_id=KeyId(key.record.id),
        user_id=user_id,
        role="editor",
        permissions=roles.OF_KEY,
        models=frozenset({"chat"}),
    )
    assert found.expires_at == pytest.approx(expires_at.timestamp(), abs=1e-3)
    assert not found.revoked
    assert not found.principal.may_use("other")


async def test_a_key_without_models_may_use_all_and_an_empty_list_none(
    accounts: AccountsService, database: Database, tenant: Tenant
) -> None:
    """Left out is not the same as empty."""
    for models, may in ((None, True), ([], False)):
        key = await accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name="x", models=models)
        found = await DatabaseIdentityLookup(database).find(key_handle_of(key.key))
        assert found is not None
        assert found.principal.may_use("chat") is may


async def test_a_revocation_is_seen_and_its_first_time_stays(
    accounts: AccountsService, database: Database, tenant: Tenant
) -> None:
    """Revoking again changes nothing."""
    issued = await accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name="x")
    times = []
    for _ in range(2):
        await accounts.revoke_key(COMMAND_LINE, None, issued.record.id)
        (listed,) = (await accounts.list_keys(tenant.id, PageRequest())).items
        times.append(listed.revoked_at)
    assert times[0] is not None
    assert times[0] == times[1]
    found = await DatabaseIdentityLookup(database).find(key_handle_of(issued.key))
    assert found is not None
    assert found.revoked


async def test_keys_of_another_tenant_are_not_listed(accounts: AccountsService, tenant: Tenant) -> None:
    """Each tenant's list holds its own."""
    await accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name="theirs")
    other = await accounts.create_tenant(COMMAND_LINE, name="x", slug="other")
    assert (await accounts.list_keys(other.id, PageRequest())).items == []


async def test_an_expiry_must_lie_in_the_future(accounts: AccountsService, tenant: Tenant) -> None:
    """A key that is dead at birth is a mistake."""
    with pytest.raises(InvalidRequest) as refused:
        await accounts.create_key(PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name="x", expires_at=datetime.now(UTC))
    assert refused.value.param == "expires_at"


async def test_the_look_up_fails_retryably_without_a_database() -> None:
    """Authentication is closed then, and says that it may work later."""
    with pytest.raises(RetryableError):
        await DatabaseIdentityLookup(Database()).find(key_handle_of("x"))


def test_a_key_is_active_until_it_expires_or_is_revoked() -> None:
    """Revoked is said first: it is what somebody decided."""
    now = datetime.now(UTC)
    born = {"id": new_id(), "tenant_id": new_id(), "name": "x", "prefix": "x", "created_at": now}
    assert ApiKey(**born).state(now) == "active"
    assert ApiKey(**born, expires_at=now + SOON).state(now) == "active"
    assert ApiKey(**born, expires_at=now).state(now) == "expired"
    assert ApiKey(**born, expires_at=now - SOON, revoked_at=now).state(now) == "revoked"


def principal_of(role: str | None, *scopes: str) -> Principal:
    permissions = roles.of_key(scopes, role) if scopes else roles.OF_ROLE[role]  # type: ignore[arg-type, index]
    return Principal(tenant_id=DEFAULT_TENANT_ID, permissions=permissions)


@pytest.mark.parametrize(
    ("given", "scopes"),
    [
        (principal_of("viewer"), ()),
        (principal_of("viewer"), ("documents:write",)),
        (principal_of("editor"), ("keys:manage",)),
        (principal_of("admin", "keys:manage"), ()),
        (principal_of("admin", "keys:manage"), ("users:manage",)),
        (principal_of("admin", "keys:manage", "models:use"), ("models:use", "documents:read")),
    ],
)
async def test_nobody_gives_a_key_more_than_they_have(
    accounts: AccountsService, given: Principal, scopes: tuple[Permission, ...]
) -> None:
    """Also with a key whose scopes are narrower than what a new key gets by default."""
    with pytest.raises(PermissionDenied):
        await accounts.create_key(given, COMMAND_LINE, tenant_id=DEFAULT_TENANT_ID, name="x", scopes=scopes)


async def test_models_are_handed_on_as_they_are_limited(accounts: AccountsService) -> None:
    """A key for one model makes none for all."""
    limited = Principal(tenant_id=DEFAULT_TENANT_ID, permissions=roles.OF_ROLE["admin"], models=frozenset({"chat"}))
    for models in (None, ["chat", "free"]):
        with pytest.raises(PermissionDenied):
            await accounts.create_key(limited, COMMAND_LINE, tenant_id=DEFAULT_TENANT_ID, name="x", models=models)
    await accounts.create_key(limited, COMMAND_LINE, tenant_id=DEFAULT_TENANT_ID, name="x", models=["chat"])


async def test_no_key_administers_the_platform(accounts: AccountsService) -> None:
    """Not even one that its administrator makes: ADMIN_KEY is the one way."""
    with pytest.raises(InvalidRequest) as refused:
        await accounts.create_key(
            PLATFORM, COMMAND_LINE, tenant_id=DEFAULT_TENANT_ID, name="x", scopes=["platform:manage"]
        )
    assert refused.value.param == "scopes"
    assert not any("platform:manage" in granted for granted in (*roles.OF_ROLE.values(), roles.OF_KEY))
