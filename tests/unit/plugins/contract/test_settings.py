"""The catalogue of settings: every variable is parsed, bounded, documented."""

from __future__ import annotations

import importlib
from typing import Any

import msgspec
import pytest

from app.settings import GROUP
from plugins.contract.discovery import BUILT_IN, WITHOUT_PREFIX
from plugins.contract.env import load_settings
from plugins.contract.errors import SettingsError
from plugins.contract.settings import MASK, Setting, SettingsGroup, settings_of
from server import ROOT

GROUPS: list[SettingsGroup] = [
    GROUP,
    *(group for name in BUILT_IN for group in importlib.import_module(f"plugins.{name}.config").SETTINGS),
]
SETTINGS = list(settings_of(GROUPS))
NUMBERS = [(group, one) for group in GROUPS for one in settings_of([group]) if "from " in one.allowed]
NEEDED = {"ADMIN_KEY": "key-of-the-tests-0123456789abcdef"}


def _edges(setting: Setting) -> tuple[float, float]:
    """The lowest and highest value that the words allow."""
    words = setting.allowed.replace(",", "").split()
    return float(words[words.index("from") + 1]), float(words[words.index("to") + 1])


def _load(group: SettingsGroup, setting: Setting, value: float, whole: bool) -> Any:
    env = {**NEEDED, setting.variable: str(int(value)) if whole else repr(value)}
    return getattr(load_settings(group.kind, env, group.prefix), setting.field)


@pytest.mark.parametrize(("group", "setting"), NUMBERS, ids=[one.variable for _, one in NUMBERS])
def test_each_bound_holds_on_both_sides(group: SettingsGroup, setting: Setting) -> None:
    """The edge itself is taken; one step past it is refused, naming variable, value and range."""
    low, high = _edges(setting)
    whole = "integer" in setting.allowed
    for edge, past in ((low, low - 1), (high, high + 1)):
        try:
            assert _load(group, setting, edge, whole) == edge
        except SettingsError as exc:  # another setting bounds this one: it is named
            assert setting.variable in exc.message or "over" in exc.message  # noqa: PT017  # both outcomes are right
        with pytest.raises(SettingsError) as caught:
            _load(group, setting, past, whole)
        assert setting.variable in caught.value.message
        assert setting.allowed in caught.value.message


@pytest.mark.parametrize("setting", SETTINGS, ids=[one.variable for one in SETTINGS])
def test_every_setting_is_documented(setting: Setting) -> None:
    """The page and the example file name each variable with its default; sizes and times have a unit."""
    page = (ROOT / "docs" / "settings.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{setting.variable}` |")]
    assert all(cell.strip() for cell in row.strip("|").split("|"))
    assert f"# {setting.variable}=" in (ROOT / ".env.example").read_text()


def test_secrets_and_passwords_in_addresses_are_masked() -> None:
    """What `wattos settings` and error messages show."""
    shown = {one.variable: one for one in SETTINGS}
    assert shown["ADMIN_KEY"].shown("hunter2") == MASK
    url = "postgresql://wattos:hunter2@db:5432/wattos"
    assert shown["DATABASE_URL"].shown(url) == f"postgresql://wattos:{MASK}@db:5432/wattos"
    assert shown["APP_ENV"].shown("production") == "production"
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
