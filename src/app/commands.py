"""What the command line does beside serving: each a coroutine that takes the environment and prints its result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import rich_click as click

from app.errors import NotFound
from app.ids import encode_id
from app.settings import read_settings


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

        tenant = await AccountsService(database).create_tenant(name=name, slug=slug)
        click.echo(encode_id("ten", tenant.id))


async def create_key(env: Mapping[str, str], slug: str, name: str, models: Sequence[str]) -> None:
    """Prints the key, this once. Raises: NotFound for an unknown tenant."""
    from app.runtime import open_database

    async with open_database(read_settings(env)) as database:
        from app.accounts.service import AccountsService

        accounts = AccountsService(database)
        tenant = await accounts.find_tenant(slug)
        if tenant is None:
            raise NotFound(f"no tenant with the slug {slug!r}: make it with `wattos tenants create {slug}`")
        created = await accounts.create_key(tenant_id=tenant.id, name=name, models=models or None)
        click.echo(created.key)
