"""Which plugins are on: strict about every switch."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from plugins.contract.discovery import BUILT_IN, discover
from plugins.contract.errors import SettingsError

ALL_OFF = {f"PLUGINS_{name.upper()}_ENABLED": "false" for name in BUILT_IN}


def test_built_in_plugins_are_on_by_default() -> None:
    """Built-ins default on, in mounting order."""
    found = discover({}, installed=())
    assert [p.name for p in found.enabled] == ["observability", "security", "resilience", "cache"]
    assert all(state.enabled and "default" in state.reason for state in found.states)


@pytest.mark.parametrize("value", ["false", "FALSE", "0", " False "])
def test_a_plugin_is_off_for_every_spelling_of_false(value: str) -> None:
    """true, false, 1 and 0 in any case are the switches."""
    states = {s.name: s for s in discover({"PLUGINS_CACHE_ENABLED": value}, installed=()).states}
    assert not states["cache"].enabled
    assert states["cache"].reason == f"PLUGINS_CACHE_ENABLED={value}"
    assert states["security"].enabled


@pytest.mark.parametrize("value", ["", "yes", "ture", "on", "2"])
def test_start_is_refused_for_a_value_that_is_no_switch(value: str) -> None:
    """Anything but a switch refuses to start, naming variable and value."""
    with pytest.raises(SettingsError, match="PLUGINS_CACHE_ENABLED") as caught:
        discover({"PLUGINS_CACHE_ENABLED": value}, installed=())
    assert repr(value) in caught.value.message


@pytest.mark.parametrize(
    "variable", ["PLUGINS_CACHE_ENABLE", "PLUGIN_CACHE_ENABLED", "PLUGINS_CAHCE_ENABLED", "PLUGINS_CACHE_ENABELD"]
)
def test_start_is_refused_for_a_misspelt_toggle(variable: str) -> None:
    """A slip must not leave a plugin silently on: the right name is proposed."""
    with pytest.raises(SettingsError, match=f"{variable}.*did you mean PLUGINS_CACHE_ENABLED"):
        discover({variable: "false"}, installed=())


def test_a_third_party_plugin_is_off_until_asked_for() -> None:
    """Installed is not active: a plugin that is off is not even imported."""
    point = EntryPoint(name="extra", value="no.such.module:Plugin", group="wattos.plugins")
    found = discover(ALL_OFF, installed=(point,))
    assert found.enabled == ()
    assert [s.enabled for s in found.states if s.name == "extra"] == [False]


def test_start_is_refused_when_two_plugins_share_a_name() -> None:
    """A clash is refused, not resolved by luck."""
    point = EntryPoint(name="cache", value="other:Plugin", group="wattos.plugins")
    with pytest.raises(SettingsError, match="two plugins are called 'cache'"):
        discover(ALL_OFF, installed=(point,))


def test_a_plugin_of_another_contract_is_refused() -> None:
    """What is not a GatewayPlugin, or made for another contract version, does not start."""
    point = EntryPoint(name="extra", value="json:JSONDecoder", group="wattos.plugins")
    with pytest.raises(SettingsError, match="not a GatewayPlugin"):
        discover({**ALL_OFF, "PLUGINS_EXTRA_ENABLED": "1"}, installed=(point,))


def test_all_wrong_switches_are_named_at_once() -> None:
    """An operator mends one list, not one switch a start."""
    env = {"PLUGINS_CACHE_ENABLED": "yes", "PLUGINS_SECURITY_ENABLED": "no", "PLUGINS_CAHCE_ENABLED": "0"}
    with pytest.raises(SettingsError) as caught:
        discover(env, installed=())
    assert all(variable in caught.value.message for variable in env)


@pytest.mark.parametrize("variable", ["PLUGINS_SERVICE_HOST", "PLUGINS_PORT", "PLUGINS_PORT_8080_TCP_ADDR"])
def test_a_service_that_is_called_plugins_does_not_matter(variable: str) -> None:
    """Kubernetes puts such names into every container: they switch nothing, and are nobody's slip."""
    assert len(discover({variable: "tcp://10.0.0.1:80"}, installed=()).enabled) == len(BUILT_IN)


def test_a_plugin_that_calls_itself_otherwise_is_refused() -> None:
    """The entry point's name makes the variables: a plugin that reads others would never hear of them."""
    point = EntryPoint(name="extra", value="plugins.cache.plugin:CachePlugin", group="wattos.plugins")
    with pytest.raises(SettingsError, match=r"plugin 'extra' .* calls itself 'cache'"):
        discover({"PLUGINS_EXTRA_ENABLED": "1"}, installed=(point,))
