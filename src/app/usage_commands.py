"""`wattos usage`: the ledger at the command line. The context's `obj` is the environment."""

# pyright: reportUnknownMemberType=false
# rich_click takes its decorators from click without their types.

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from plugins.contract.errors import WattosError

if TYPE_CHECKING:
    from app.billing.reconcile.compare import Report
    from app.billing.reconcile.service import Wanted

DAY = click.DateTime(["%Y-%m-%d"])
DIFFERS, FAILED = 1, 2
"""Exit codes, as those of `diff`."""


class Usd(click.ParamType[Decimal]):
    """An amount of dollars, exactly as it is written."""

    name = "usd"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        try:
            amount = Decimal(str(value))
        except ArithmeticError:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount < 0:
            self.fail(f"{value!r} is no amount of dollars: e.g. 0.01", param, ctx)
        return amount


@click.group()
def usage() -> None:
    """What was called, and what it cost."""


@usage.command("reconcile")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--tenant", "slug", help="One tenant's calls, by its slug. None: all tenants'.")
@click.option("--since", type=DAY, help="First day, UTC. None: the file's first.")
@click.option("--until", type=DAY, help="Last day, UTC, included. None: the file's last.")
@click.option("--target", "targets", multiple=True, help="Vendor, target or model; repeat. None: the file's vendor.")
@click.option("--tolerance-tokens", type=click.IntRange(min=0), default=0, show_default=True, help="A day and model.")
@click.option("--tolerance-usd", type=Usd(), default="0.01", show_default=True, help="A day and model.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def reconcile(
    ctx: click.Context,
    file: Path,
    slug: str | None,
    since: datetime | None,
    until: datetime | None,
    targets: tuple[str, ...],
    tolerance_tokens: int,
    tolerance_usd: Decimal,
    as_json: bool,
) -> None:
    """Compare the ledger with a vendor's usage export: CSV or JSON of OpenAI's or Anthropic's, or a plain one.

    Exit code 0: nothing differs; 1: something does; 2: it could not be compared.
    """
    from app.billing.reconcile.compare import Tolerance
    from app.billing.reconcile.service import Wanted
    from app.billing.reconcile.show import as_json as shown_as_json
    from app.billing.reconcile.show import as_table
    from app.llm.prices import NUSD_PER_USD

    wanted = Wanted(
        since=_day(since),
        until=_day(until),
        targets=targets,
        tolerance=Tolerance(tokens=tolerance_tokens, cost_nusd=int(tolerance_usd * NUSD_PER_USD)),
    )
    try:
        report = asyncio.run(_reconcile(ctx.obj, file, slug, wanted))
    except WattosError as exc:
        click.echo(f"wattos: {exc.message}", err=True)
        ctx.exit(FAILED)
    click.echo(shown_as_json(report) if as_json else "\n".join(as_table(report)))
    ctx.exit(0 if report.is_equal else DIFFERS)


async def _reconcile(env: Mapping[str, str], file: Path, slug: str | None, wanted: Wanted) -> Report:
    """Raises: WattosError in one line."""
    import msgspec

    from app.accounts.service import AccountsService
    from app.billing.reconcile.export import read_export
    from app.billing.reconcile.service import reconcile as compare
    from app.errors import NotFound
    from app.llm.catalog import load_catalog
    from app.runtime import open_database
    from app.settings import read_settings

    export = read_export(file)  # before a database is started for it
    settings = read_settings(env)
    catalog = load_catalog(Path(settings.models_config), env) if settings.models_config else None
    provider_models = {target.id: target.provider_model for target in catalog.targets()} if catalog else {}
    async with open_database(settings) as database:
        if slug is not None:
            tenant = await AccountsService(database).find_tenant(slug)
            if tenant is None:
                raise NotFound(f"no tenant with the slug {slug!r}: `wattos tenants list` shows those there are")
            wanted = msgspec.structs.replace(wanted, tenant_id=tenant.id)
        return await compare(database, export, wanted, provider_models)


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()
