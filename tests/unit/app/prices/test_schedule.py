"""Which version of a price holds when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.llm.prices import Price
from app.prices.model import PriceSchedule, PriceVersion

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)


def price(number: int) -> Price:
    return Price(input_nusd_per_mtok=number, output_nusd_per_mtok=number)


def version(number: int, of: Price | None, after: timedelta = timedelta(), target: str = "t") -> PriceVersion:
    return PriceVersion(
        id=UUID(int=number), tenant_id=UUID(int=9), target=target, price=of, valid_from=START + after, created_at=START
    )


def test_a_version_holds_from_its_moment_until_the_next() -> None:
    schedule = PriceSchedule([version(1, price(1)), version(2, price(2), DAY)])
    assert schedule.at(START - MOMENT) == {}
    assert schedule.at(START) == schedule.at(START + DAY - MOMENT) == {"t": price(1)}
    assert schedule.at(START + DAY) == schedule.at(START + 900 * DAY) == {"t": price(2)}
    assert schedule.at(START) == {"t": price(1)}


def test_targets_change_apart() -> None:
    schedule = PriceSchedule([version(1, price(1)), version(2, price(2), DAY, "other")])
    assert schedule.at(START) == {"t": price(1)}
    assert schedule.at(START + DAY) == {"t": price(1), "other": price(2)}


def test_no_price_is_that_of_everybody() -> None:
    schedule = PriceSchedule([version(1, price(1)), version(2, None, DAY)])
    assert schedule.at(START + DAY) == {}


def test_what_was_set_later_takes_the_place_of_a_version_that_begins_with_it() -> None:
    """So a price that is to come can be taken back."""
    schedule = PriceSchedule([version(3, None, DAY), version(2, price(2), DAY), version(1, price(1))])
    assert schedule.at(START + DAY) == {}


def test_between_two_changes_nothing_is_made_anew() -> None:
    schedule = PriceSchedule([version(1, price(1)), version(2, price(2), DAY)])
    assert schedule.at(START) is schedule.at(START + MOMENT)
    assert PriceSchedule([]).at(START) == {}
