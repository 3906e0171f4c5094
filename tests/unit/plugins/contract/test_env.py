"""From environment variables to settings."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest

from plugins.contract.env import load_settings
from plugins.contract.errors import SettingsError


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
