"""Which plugins there are, and which are on. The only place that asks `PLUGINS_<NAME>_ENABLED`.

Built-ins default on. Third-party ones (entry-point group `wattos.plugins`) default off: installed is not active.
A plugin that is off is not even imported.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, version

import msgspec

from plugins.contract.env import flag
from plugins.contract.errors import SettingsError
from plugins.contract.plugin import CONTRACT_VERSION, GatewayPlugin
from plugins.contract.settings import SettingsGroup
from plugins.contract.unknown import is_service_link

BUILT_IN: Mapping[str, str] = {
    "observability": "plugins.observability.plugin:ObservabilityPlugin",
    "security": "plugins.security.plugin:SecurityPlugin",
    "resilience": "plugins.resilience.plugin:ResiliencePlugin",
    "cache": "plugins.cache.plugin:CachePlugin",
}
"""Name → class, in mounting order: the order of middleware is the order here (design, one request, one direction)."""

WITHOUT_PREFIX: Mapping[str, tuple[str, ...]] = {
    "observability": ("LOG_LEVEL",),
    "security": ("ADMIN_KEY", "OIDC_"),
    "resilience": ("CIRCUIT_BREAKER_", "RETRY_"),
    "cache": ("VALKEY_URL",),
}
"""Settings of built-ins that have no `PLUGINS_<NAME>_` in front, or how they begin (`…_`): known while it is off."""

ENTRY_POINT_GROUP = "wattos.plugins"
_NAME = re.compile(r"[a-z][a-z0-9]*")
_LIKE_A_TOGGLE = re.compile(r"PLUGINS?_")


class PluginState(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `GET /plugins`. `reason` says which variable or default decided."""

    name: str
    version: str
    enabled: bool
    built_in: bool
    reason: str


class Discovered(msgspec.Struct, frozen=True):
    """All known plugins' states, and the classes of those that are on, in mounting order."""

    states: tuple[PluginState, ...]
    enabled: tuple[type[GatewayPlugin], ...]

    @property
    def toggles(self) -> tuple[str, ...]:
        """The variables that switch plugins."""
        return tuple(toggle_of(state.name) for state in self.states)

    @property
    def settings(self) -> tuple[SettingsGroup, ...]:
        """Of the plugins that are on."""
        return tuple(group for plugin in self.enabled for group in plugin.settings())

    @property
    def tolerated(self) -> tuple[str, ...]:
        """Variables of plugins that are off, or how they begin (`…_`): nobody imports them to find out more."""
        off = [state.name for state in self.states if not state.enabled]
        return tuple(start for name in off for start in (f"PLUGINS_{name.upper()}_", *WITHOUT_PREFIX.get(name, ())))


def toggle_of(name: str) -> str:
    return f"PLUGINS_{name.upper()}_ENABLED"


def discover(env: Mapping[str, str], installed: tuple[EntryPoint, ...] | None = None) -> Discovered:
    """Raises: SettingsError for a toggle that names no plugin, a value that is no switch, a clash of names or a plugin
    made for another version of the contract."""
    points = tuple(entry_points(group=ENTRY_POINT_GROUP)) if installed is None else installed
    known = {**dict.fromkeys(BUILT_IN), **_third_party(points)}
    problems = _unknown_toggles(env, known)
    switched: dict[str, bool] = {}
    for name, point in known.items():
        try:
            switched[name] = flag(env, toggle_of(name), default=point is None)
        except SettingsError as exc:
            problems.append(exc.message)
    if problems:
        raise SettingsError("; ".join(problems))
    states: list[PluginState] = []
    classes: list[type[GatewayPlugin]] = []
    for name, point in known.items():
        toggle, enabled = toggle_of(name), switched[name]
        kind = "built-in" if point is None else "third-party"
        reason = f"{toggle}={env[toggle]}" if toggle in env else f"default of {kind} plugins"
        states.append(
            PluginState(name=name, version=_version(point), enabled=enabled, built_in=point is None, reason=reason)
        )
        if enabled:
            classes.append(_load(name, BUILT_IN[name] if point is None else point.value))
    return Discovered(tuple(states), tuple(classes))


def _third_party(points: tuple[EntryPoint, ...]) -> dict[str, EntryPoint | None]:
    found: dict[str, EntryPoint | None] = {}
    for point in points:
        if not _NAME.fullmatch(point.name):
            raise SettingsError(f"plugin name {point.name!r} ({point.value}) must match [a-z][a-z0-9]*")
        if point.name in BUILT_IN or point.name in found:
            raise SettingsError(f"two plugins are called {point.name!r}: uninstall one ({point.value})")
        found[point.name] = point
    return found


def _unknown_toggles(env: Mapping[str, str], known: Mapping[str, object]) -> list[str]:
    """A toggle with a slip in it would silently leave its plugin as it was: refuse what looks like one and is none."""
    toggles = [toggle_of(name) for name in known]
    problems: list[str] = []
    for variable in sorted(env):
        if variable in toggles or not _LIKE_A_TOGGLE.match(variable) or is_service_link(variable):
            continue
        _, _, rest = variable.partition("_")
        name = rest.partition("_")[0].lower()
        close = get_close_matches(variable, toggles, n=1, cutoff=0.85)
        if variable.startswith("PLUGIN_") or name not in known or close:
            meant = f"did you mean {close[0]}?" if close else f"known plugins are {', '.join(sorted(known))}"
            problems.append(f"{variable} switches nothing: {meant}")
    return problems


def _load(name: str, path: str) -> type[GatewayPlugin]:
    module, _, attribute = path.partition(":")
    try:
        plugin = getattr(importlib.import_module(module), attribute)
    except Exception as exc:
        if name in BUILT_IN:
            raise
        # Of an import error the text is needed: it names the module that is not there. Others may say anything.
        why = str(exc).partition("\n")[0] if isinstance(exc, ImportError) else type(exc).__name__
        raise SettingsError(
            f"plugin {name!r} ({path}) cannot be loaded ({why}): mend or uninstall it, or set {toggle_of(name)}=false"
        ) from exc
    if not (isinstance(plugin, type) and issubclass(plugin, GatewayPlugin)) or inspect.isabstract(plugin):
        raise SettingsError(f"plugin {name!r}: {path} is not a GatewayPlugin with all its steps")
    if plugin.contract_version != CONTRACT_VERSION:
        raise SettingsError(
            f"plugin {name!r} was made for contract {plugin.contract_version}, this is {CONTRACT_VERSION}: update it"
        )
    if getattr(plugin, "name", None) != name:
        raise SettingsError(f"plugin {name!r} ({path}) calls itself {getattr(plugin, 'name', None)!r}: they must agree")
    return plugin


def _version(point: EntryPoint | None) -> str:
    if point is None:
        return version("wattos")
    return point.dist.version if point.dist is not None else "unknown"
