"""The catalogue of settings: every variable is parsed, bounded, documented."""

from __future__ import annotations

import importlib
import math
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from app.settings import GROUP
from plugins.contract.discovery import BUILT_IN, WITHOUT_PREFIX
from plugins.contract.env import load_settings
from plugins.contract.errors import SettingsError
from plugins.contract.redaction import MASK
from plugins.contract.settings import Setting, SettingsGroup, settings_of
from server import ROOT

GROUPS: list[SettingsGroup] = [
    GROUP,
    *(group for name in BUILT_IN for group in importlib.import_module(f"plugins.{name}.config").SETTINGS),
]
SETTINGS = list(settings_of(GROUPS))


def _number(setting: Setting) -> inspect.IntType | inspect.FloatType | None:
    """What msgspec knows of a number's bounds; None for what is no number."""
    of = inspect.type_info(setting.given_kind)
    bare = of.type if isinstance(of, inspect.Metadata) else of
    return bare if isinstance(bare, inspect.IntType | inspect.FloatType) else None


BOUNDED = [
    (group, one, edge)
    for group in GROUPS
    for one in settings_of([group])
    for edge in ("low", "high")
    if _number(one) is not None
]
NEEDED = {"ADMIN_KEY": "key-of-the-tests-0123456789abcdef"}
OTHERS = {
    "PLUGINS_CACHE_MAX_BYTES": {"PLUGINS_CACHE_MAX_ENTRY_BYTES": "1"},
    "PLUGINS_CACHE_MAX_ENTRY_BYTES": {"PLUGINS_CACHE_MAX_BYTES": str(1 << 40)},
    "RETRY_INITIAL_DELAY": {"RETRY_MAX_DELAY": "600000"},
    "RETRY_MAX_DELAY": {"RETRY_INITIAL_DELAY": "0"},
}
"""Settings that bound each other: what the other must be for the whole range to be open."""


def _at_the_edge(setting: Setting, edge: str) -> tuple[float, float]:
    """The last value inside and the first outside, from the type itself."""
    of = _number(setting)
    assert of is not None
    closed, opened, outwards = (of.ge, of.gt, -math.inf) if edge == "low" else (of.le, of.lt, math.inf)
    bound = closed if closed is not None else opened
    assert bound is not None, f"{setting.variable} has no bound that is {edge}"

    def step(value: float, towards: float) -> float:
        if isinstance(of, inspect.IntType):
            return value + (1 if towards > 0 else -1)
        return math.nextafter(value, towards)

    return (bound, step(bound, outwards)) if closed is not None else (step(bound, -outwards), bound)


def _load(group: SettingsGroup, setting: Setting, value: float) -> Any:
    env = {**NEEDED, **OTHERS.get(setting.variable, {}), setting.variable: repr(value)}
    return getattr(load_settings(group.kind, env, group.prefix), setting.field)


@pytest.mark.parametrize(
    ("group", "setting", "edge"), BOUNDED, ids=[f"{one.variable}-{edge}" for _, one, edge in BOUNDED]
)
def test_each_number_is_bounded_on_both_sides(group: SettingsGroup, setting: Setting, edge: str) -> None:
    """The last value inside is taken; the next one is refused, naming variable, value and range."""
    inside, outside = _at_the_edge(setting, edge)
    assert _load(group, setting, inside) == inside
    with pytest.raises(SettingsError) as caught:
        _load(group, setting, outside)
    assert f"{setting.variable}={str(outside)!r} cannot be used: it takes {setting.allowed}" in caught.value.message
    assert f"{inside:g}" in setting.allowed or str(inside) in setting.allowed or inside == math.ulp(0.0)


@pytest.mark.parametrize("setting", SETTINGS, ids=[one.variable for one in SETTINGS])
def test_each_word_and_switch_takes_only_what_it_says(setting: Setting) -> None:
    """Each choice in any case; anything else is refused, naming what is allowed."""
    (group,) = [g for g in GROUPS for one in settings_of([g]) if one == setting]
    choices = setting.choices or (("true", "false", "1", "0") if setting.is_switch else ())
    for choice in choices:
        env = {**NEEDED, setting.variable: choice.upper()}
        loaded = getattr(load_settings(group.kind, env, group.prefix), setting.field)
        assert loaded == (choice in ("true", "1") if setting.is_switch else choice)
        with pytest.raises(SettingsError, match=f"{setting.variable}='no-such-word' cannot be used.*{choice}"):
            load_settings(group.kind, {**NEEDED, setting.variable: "no-such-word"}, group.prefix)


@pytest.mark.parametrize("setting", SETTINGS, ids=[one.variable for one in SETTINGS])
def test_every_setting_is_documented(setting: Setting) -> None:
    """The page and the example file name each variable with its default; sizes and times have a unit."""
    page = (ROOT / "docs" / "settings.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{setting.variable}` |")]
    assert all(cell.strip() for cell in row.strip("|").split("|"))
    assert f"# {setting.variable}=" in (ROOT / ".env.example").read_text()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://wattos:hunter2@db:5432/wattos", f"postgresql://wattos:{MASK}@db:5432/wattos"),
        ("postgresql://wattos@db/wattos", "postgresql://wattos@db/wattos"),
        ("postgresql://wattos:hun/ter@2@db/wattos", f"postgresql://wattos:{MASK}@db/wattos"),
        ("postgresql://wattos:[hunter2@db/wattos", f"postgresql://wattos:{MASK}@db/wattos"),
        ("postgresql://db/wattos?user=a&password=hunter2", f"postgresql://db/wattos?user=a&password={MASK}"),
        ("host=db password=hunter2 port=1", f"host=db password={MASK} port=1"),
        ("wattos:hunter2@db/wattos", f"wattos:{MASK}@db/wattos"),
    ],
)
def test_a_password_in_an_address_is_masked(given: str, shown: str) -> None:
    """Wherever it stands, well-formed or not: refused values are shown too."""
    setting = {one.variable: one for one in SETTINGS}["DATABASE_URL"]
    assert setting.shown(given) == shown


def test_secrets_are_masked_and_only_they() -> None:
    """What `wattos settings` and error messages show."""
    shown = {one.variable: one for one in SETTINGS}
    assert shown["ADMIN_KEY"].shown("hunter2") == MASK
    assert shown["APP_ENV"].shown("production") == "production"
    assert shown["MODELS_CONFIG"].shown("/etc/wattos/models=v2.yaml") == "/etc/wattos/models=v2.yaml"
    assert not shown["MAX_BODY_BYTES"].is_secret


def test_all_problems_are_named_at_once() -> None:
    """An operator mends one list, not one line a start."""

    class Sample(msgspec.Struct, frozen=True):
        size_bytes: int = 1
        times: int = 2
        name: str = ""

    with pytest.raises(SettingsError) as caught:
        load_settings(Sample, {"SIZE_BYTES": "a", "TIMES": "b", "NAME": "c"})
    assert "SIZE_BYTES='a'" in caught.value.message
    assert "TIMES='b'" in caught.value.message
    assert "NAME" not in caught.value.message


def test_settings_without_a_prefix_are_known_while_their_plugin_is_off() -> None:
    """`WITHOUT_PREFIX` says what the plugins' own structs say: nobody may import them to find out."""
    for name in BUILT_IN:
        groups = importlib.import_module(f"plugins.{name}.config").SETTINGS
        bare = [one.variable for one in settings_of(groups) if not one.variable.startswith(f"PLUGINS_{name.upper()}_")]
        starts = WITHOUT_PREFIX.get(name, ())
        assert all(variable.startswith(starts) for variable in bare), name
        assert all(any(variable.startswith(start) for variable in bare) for start in starts), name
