"""Ours beside theirs, place by place. What was estimated here may explain that theirs is more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date

import msgspec

from app.billing.reconcile.model import NOTHING, Field, Ours, Place, State, Totals


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    """How much each number of a day and model may differ. Requests must be equal."""

    tokens: int = 0
    cost_nusd: int = 10_000_000
    """A cent: vendors round what they show of costs."""

    def of(self, field: Field) -> int:
        return {"requests": 0, "cost_nusd": self.cost_nusd}.get(field, self.tokens)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One day and model. `difference` is theirs less what is known of ours."""

    day: date
    model: str
    ours: Ours
    theirs: Totals
    difference: Totals
    state: State


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`fields`: what can be compared. `without_target`: lost calls, of which nobody knows where they went."""

    kind: str
    since: date
    until: date
    fields: tuple[Field, ...]
    lines: list[Line]
    sums: Line
    without_target: Ours

    @property
    def is_equal(self) -> bool:
        return all(line.state != "differs" for line in self.lines)


def compared(
    ours: Mapping[Place, Ours], theirs: Mapping[Place, Totals], fields: tuple[Field, ...], tolerance: Tolerance
) -> list[Line]:
    """All places of either, in order."""
    places = sorted(ours.keys() | theirs.keys())
    return [_line(place, ours.get(place, Ours()), theirs.get(place, NOTHING), fields, tolerance) for place in places]


def summed(lines: list[Line], until: date) -> Line:
    """Of the whole time. Its state is the worst of the lines': differences of two days do not make each other good."""
    ours, theirs, difference = Ours(), NOTHING, NOTHING
    for line in lines:
        ours, theirs, difference = ours + line.ours, theirs + line.theirs, difference + line.difference
    state = _worst(line.state for line in lines)
    return Line(day=until, model="all", ours=ours, theirs=theirs, difference=difference, state=state)


def by_place(totals: Mapping[tuple[date, str], Totals], name_of: Mapping[str, str]) -> dict[Place, Totals]:
    """Models that are the same one are added up."""
    found: defaultdict[Place, Totals] = defaultdict(Totals)
    for (day, model), one in totals.items():
        found[Place(day, name_of[model])] += one
    return dict(found)


def _line(place: Place, ours: Ours, theirs: Totals, fields: tuple[Field, ...], tolerance: Tolerance) -> Line:
    difference = Totals(**{field: theirs.of(field) - ours.known.of(field) for field in fields})
    state = _worst(_state(difference.of(field), ours.estimated.of(field), tolerance.of(field)) for field in fields)
    return Line(day=place.day, model=place.model, ours=ours, theirs=theirs, difference=difference, state=state)


def _worst(states: Iterable[State]) -> State:
    found = {*states}
    return "differs" if "differs" in found else "explained" if "explained" in found else "equal"


def _state(difference: int, estimated: int, tolerance: int) -> State:
    if abs(difference) <= tolerance:
        return "equal"
    return "explained" if 0 < difference <= estimated + tolerance else "differs"
