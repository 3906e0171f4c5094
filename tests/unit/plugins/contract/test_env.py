"""From environment variables to settings."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest

from plugins.contract.env import load_settings
from plugins.contract.errors import SettingsError
from plugins.contract.settings import allowed_words


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    mode: Literal["slow", "fast"] = "slow"
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    on: bool = True
    api_key: Annotated[str, msgspec.Meta(min_length=8)] = "unset-value"


def test_values_are_read_with_their_types_and_defaults() -> None:
    """Each field comes from its variable; empty counts as unset."""
    settings = load_settings(Sample, {"X_SIZE_BYTES": "7", "X_ON": "0", "X_MODE": ""}, prefix="X_")
    assert settings == Sample(size_bytes=7, on=False)


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"SIZE_BYTES": "11"}, ["SIZE_BYTES", "'11'", "10"]),
        ({"SIZE_BYTES": "many"}, ["SIZE_BYTES", "'many'"]),
        ({"MODE": "medium"}, ["MODE", "'medium'"]),
        ({"ON": "maybe"}, ["ON", "'maybe'"]),
    ],
)
def test_a_wrong_value_is_refused_by_name(env: dict[str, str], named: list[str]) -> None:
    """The message names variable, value and what is allowed."""
    with pytest.raises(SettingsError) as caught:
        load_settings(Sample, env)
    assert all(word in caught.value.message for word in named)


def test_a_secret_value_is_never_shown() -> None:
    """Secrets stay out of error messages."""
    with pytest.raises(SettingsError) as caught:
        load_settings(Sample, {"API_KEY": "hunter2"})
    assert "API_KEY" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_a_required_setting_that_is_missing_is_named() -> None:
    """A field without a default must be set."""

    class Needed(msgspec.Struct):
        url: str

    with pytest.raises(SettingsError, match="URL is not set"):
        load_settings(Needed, {})


def test_a_long_value_is_cut_and_stays_on_one_line() -> None:
    """A file pasted into a variable does not flood the terminal."""
    with pytest.raises(SettingsError) as caught:
        load_settings(Sample, {"SIZE_BYTES": "line\n" * 1000})
    assert len(caught.value.message) < 250
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("text", "taken"), [("Fast", "fast"), (" SLOW ", "slow")])
def test_words_are_taken_in_any_case(text: str, taken: str) -> None:
    """As switches are."""
    assert load_settings(Sample, {"MODE": text}).mode == taken


def test_null_is_a_text_and_not_unset() -> None:
    """Only the empty value counts as unset: msgspec alone would read `null` as none given."""

    class Optional(msgspec.Struct):
        path: str | None = "default"
        port: Annotated[int, msgspec.Meta(ge=1, le=9)] | None = None

    assert load_settings(Optional, {"PATH": "null"}).path == "null"
    with pytest.raises(SettingsError, match="PORT='null' cannot be used: it takes an integer from 1 to 9"):
        load_settings(Optional, {"PORT": "null"})


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Annotated[str, msgspec.Meta(min_length=2, max_length=5)], "a text of 2 to 5 characters"),
        (Annotated[str, msgspec.Meta(max_length=5)], "a text of 0 to 5 characters"),
        (Annotated[str, msgspec.Meta(pattern="^x", extra={"form": "x…"})] | None, "x…"),
        (Annotated[float, msgspec.Meta(gt=0)], "a number over 0"),
        (Annotated[int, msgspec.Meta(ge=1, lt=9)], "an integer of at least 1, under 9"),
        (Annotated[int, msgspec.Meta(le=9)], "an integer up to 9"),
        (int, "an integer"),
        (bool | None, "true, false, 1 or 0"),
    ],
)
def test_what_is_allowed_is_said_in_words(kind: object, words: str) -> None:
    """For messages, the list and the page alike."""
    assert allowed_words(kind) == words
