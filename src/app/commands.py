"""What the command line does beside serving: each a coroutine that takes the environment and prints its result."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar
from uuid import UUID

import msgspec
import rich_click as click

from app.database.paging import PageRequest, Rows
from app.errors import InvalidRequest, NotFound
from app.ids import decode_id, encode_id
from app.settings import read_settings
from plugins.contract.permissions import EVERYTHING, Permission
from plugins.contract.principal import Principal, Role

PLATFORM = Principal(tenant_id=None, is_platform_admin=True, permissions=EVERYTHING)
"""Whoever can run commands has the database's address, and so every right."""

_PAGE = 100


class _HasId(Protocol):
    @property
    def id(self) -> UUID: ...


R = TypeVar("R", bound=_HasId)


async def pull_models(env: Mapping[str, str]) -> None:
    """Fetch the local model's weights unless they are there."""
    from app.local_models.weights import present, pull

    models_path = read_settings(env).models_path
    if present(models_path):
        return
    click.echo("Fetching the local model's weights (93 MB) …")
    await asyncio.to_thread(pull, models_path)
    click.echo(f"local model ready in {models_path}")


async def upgrade_database(env: Mapping[str, str]) -> None:
    """Bring the schema to the newest revision."""
    from app.runtime import database_url

    async with database_url(read_settings(env), migrate=True):
        click.echo("the database has the newest schema")


async def check_database(env: Mapping[str, str]) -> None:
    """Raises: SchemaDrift (a WattosError) that names the differences."""
    from app.database.migrate import check
    from app.runtime import database_url

    async with database_url(read_settings(env), migrate=False) as url:
        await check(url)
        click.echo("the database has exactly the schema that this release expects")


async def show_settings(env: Mapping[str, str], as_json: bool) -> None:
    """Prints each setting with its value, masked where it is secret, and its origin."""
    from app.effective_settings import effective_settings

    rows, warnings = effective_settings(env)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    for row in rows:
        click.echo(f"{row.variable:<44} {row.value or '-':<28} {row.origin}")


async def create_tenant(env: Mapping[str, str], slug: str, name: str) -> None:
    """Prints the tenant's id."""
    from app.runtime import open_database

    async with open_database(read_settings(env)) as database:
        from app.accounts.service import AccountsService
        from app.audit.model import COMMAND_LINE

        tenant = await AccountsService(database).create_tenant(COMMAND_LINE, name=name, slug=slug)
        click.echo(encode_id("ten", tenant.id))


async def list_tenants(env: Mapping[str, str]) -> None:
    """Prints each tenant's id, slug and name, newest first."""
    from app.runtime import open_database

    async with open_database(read_settings(env)) as database:
        from app.accounts.service import AccountsService

        accounts = AccountsService(database)
        async for tenant in all_rows(accounts.list_tenants):
            click.echo(f"{encode_id('ten', tenant.id)}  {tenant.slug:<32} {tenant.name}")


async def create_key(
    env: Mapping[str, str], slug: str, name: str, models: Sequence[str], scopes: Sequence[Permission]
) -> None:
    """Prints the key, this once. Raises: NotFound for an unknown tenant."""
    from app.runtime import open_database

    async with open_database(read_settings(env)) as database:
        from app.accounts.service import AccountsService
        from app.audit.model import COMMAND_LINE

        accounts = AccountsService(database)
        tenant = await accounts.find_tenant(slug)
        if tenant is None:
            raise NotFound(f"no tenant with the slug {slug!r}: make it with `wattos tenants create {slug}`")
        created = await accounts.create_key(
            PLATFORM, COMMAND_LINE, tenant_id=tenant.id, name=name, scopes=scopes, models=models or None
        )
        click.echo(created.key)


async def list_keys(env: Mapping[str, str], slug: str) -> None:
    """Prints a tenant's keys without their secrets, newest first."""
    from app.runtime import open_database

    async with open_database(read_settings(env)) as database:
        from app.accounts.service import AccountsService

        accounts = AccountsService(database)
        tenant = await accounts.find_tenant(slug)
        if tenant is None:
            raise NotFound(f"no tenant with the slug {slug!r}")
        async for key in all_rows(functools.partial(accounts.list_keys, tenant.id)):
            state = key.state(datetime.now(UTC))
            used = key.last_used_at.isoformat(timespec="minutes") if key.last_used_at else "never used"
            click.echo(f"{encode_id('key', key.id)}  {key.prefix}…  {state:<8} {used:<18} {key.name}")


async def revoke_key(env: Mapping[str, str], key_id: str) -> None:
    """Dead within a second on every replica."""
    from app.runtime import open_database

    async with open_database(read_settings(env)) as database:
        from app.accounts.service import AccountsService
        from app.audit.model import COMMAND_LINE

        await AccountsService(database).revoke_key(COMMAND_LINE, None, decode_id("key", key_id))
        click.echo("revoked")


async def create_user(env: Mapping[str, str], slug: str, email: str, role: Role, password: str) -> None:
    """Prints the user's id."""
    from app.runtime import open_database

    async with open_database(read_settings(env)) as database:
        from app.accounts.passwords import Passwords
        from app.accounts.service import AccountsService
        from app.accounts.users.schemas import UserCreate
        from app.accounts.users.service import UsersService
        from app.audit.model import COMMAND_LINE

        tenant = await AccountsService(database).find_tenant(slug)
        if tenant is None:
            raise NotFound(f"no tenant with the slug {slug!r}: make it with `wattos tenants create {slug}`")
        try:
            asked = msgspec.convert({"email": email, "role": role, "password": password}, UserCreate)
        except msgspec.ValidationError as exc:
            raise InvalidRequest(f"this is no user: {exc}") from None
        user = await UsersService(database, Passwords()).create(PLATFORM, COMMAND_LINE, tenant.id, asked)
        click.echo(encode_id("user", user.id))


async def verify_audit(env: Mapping[str, str], heads: Path | None) -> None:
    """Prints each chain and its head. `heads`: what it printed before. Raises: BrokenAuditLog."""
    from app.runtime import open_database

    async with open_database(read_settings(env)) as database:
        from app.audit.verify import BrokenAuditLog, verify

        broken: list[str] = []
        async for chain in verify(database, _heads_in(heads)):
            name = encode_id("ten", chain.tenant_id)
            click.echo(f"{name}  {chain.n_events:>8} events  {chain.head.hex() or '-'}  {chain.broken or 'whole'}")
            broken += [] if chain.broken is None else [f"{name}: {chain.broken}"]
        if broken:
            raise BrokenAuditLog("; ".join(broken))


def _heads_in(file: Path | None) -> dict[UUID, tuple[int, bytes]]:
    """Raises: InvalidRequest for a file that is no output of `wattos audit verify`."""
    found: dict[UUID, tuple[int, bytes]] = {}
    try:
        for line in file.read_text().splitlines() if file else ():
            name, n_events, _, head, *_ = line.split()
            found[decode_id("ten", name)] = (int(n_events), bytes.fromhex(head.strip("-")))
    except (OSError, ValueError, NotFound) as exc:
        raise InvalidRequest(f"{file} holds no heads as `wattos audit verify` prints them ({exc})") from None
    return found


async def rotate_secrets(env: Mapping[str, str]) -> None:
    """Seals all tenants' own provider keys with the first key of ENCRYPTION_KEY."""
    from app.runtime import open_database

    settings = read_settings(env)
    async with open_database(settings) as database:
        from app.accounts.service import AccountsService
        from app.own_secrets import encryption_key
        from app.provider_keys.sealing import Seal
        from app.provider_keys.service import ProviderKeysService
        from plugins.contract.nulls import NullChangeFeed

        seal = Seal.of(encryption_key(settings))
        secrets = ProviderKeysService(database, NullChangeFeed(), seal, allowed_hosts=frozenset())
        n_sealed = 0
        async for tenant in all_rows(AccountsService(database).list_tenants):
            n_sealed += await secrets.rotate(tenant.id)
        click.echo(f"{n_sealed} sealed anew")


async def all_rows(ask: Callable[[PageRequest], Awaitable[Rows[R]]]) -> AsyncIterator[R]:
    """Page by page."""
    after: UUID | None = None
    while True:
        rows = await ask(PageRequest(limit=_PAGE, after=after))
        for row in rows.items:
            yield row
        if not rows.has_more:
            return
        after = rows.items[-1].id
