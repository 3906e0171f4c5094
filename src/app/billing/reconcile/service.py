"""The ledger compared with a vendor's file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import msgspec

from app.billing.reconcile import store
from app.billing.reconcile.compare import Report, Tolerance, by_place, compared, summed
from app.billing.reconcile.model import FIELDS, Export, Ours, Place, Totals
from app.billing.reconcile.names import one_name, vendor_and_model
from app.database.engine import Database, Role
from app.errors import InvalidRequest


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared. `targets`: vendors, targets or models; without any the vendor's whose file it is."""

    tenant_id: UUID | None = None
    since: date | None = None
    """The file's first day unless said; both are included."""
    until: date | None = None
    targets: tuple[str, ...] = ()
    tolerance: Tolerance = Tolerance()


async def reconcile(database: Database, export: Export, wanted: Wanted, provider_models: Mapping[str, str]) -> Report:
    """`provider_models`: by target id, where the id does not say it. Raises: InvalidRequest, DatabaseUnavailable."""
    days = [day for day, _ in export.totals]
    since, until = wanted.since or min(days), wanted.until or max(days)
    if since > until:
        raise InvalidRequest(f"--since {since} is after --until {until}")
    begins = datetime.combine(since, time(), UTC)
    ends = datetime.combine(until, time(), UTC) + timedelta(days=1)
    access = database.role(Role.LEDGER) if wanted.tenant_id is None else database.tenant(wanted.tenant_id)
    async with access as session:
        rows = await store.sent(session, wanted.tenant_id, begins, ends)
    asked = wanted.targets or ((export.provider,) if export.provider else ())
    ours: defaultdict[Place, Ours] = defaultdict(Ours)
    without_target = Ours()
    vendors: set[str] = set()
    for row in rows:
        counted = Totals(**{field: int(row[field]) for field in FIELDS})
        one = Ours(**{"estimated" if row["is_estimate"] else "known": counted}, unpriced=int(row["unpriced"]))
        target: str | None = row["target"]
        if target is None:
            without_target += one
            continue
        vendor, model = vendor_and_model(provider_models.get(target, target))
        if not asked or _names(target, vendor, model) & {*asked}:
            vendors.add(vendor)
            ours[Place(row["day"], one_name(model))] += one
    theirs = {place: one for place, one in _theirs(export, vendors).items() if since <= place.day <= until}
    lines = compared(ours, theirs, export.fields, wanted.tolerance)
    return Report(
        kind=export.kind,
        since=since,
        until=until,
        fields=export.fields,
        lines=lines,
        sums=summed(lines, until),
        without_target=without_target,
    )


def _names(target: str, vendor: str, model: str) -> set[str]:
    """By which it may be asked for."""
    return {target, vendor, model, f"{vendor}/{model}"}


def _theirs(export: Export, vendors: Collection[str]) -> dict[Place, Totals]:
    """A file that somebody made may name models as MODELS_CONFIG does."""
    names: dict[str, str] = {}
    for _, written in export.totals:
        vendor, model = vendor_and_model(written)
        names[written] = one_name(model if vendor and vendor in vendors else written)
    return by_place(export.totals, names)
