"""`wattos settings`: what this process would read, and where each value comes from. Starts and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.environment import read_environment
from app.own_secrets import FILE_NAME
from app.settings import Settings
from plugins.contract.discovery import toggle_of
from plugins.contract.redaction import MASK
from plugins.contract.settings import settings_of

ADMIN_KEY = "ADMIN_KEY"
ENVIRONMENT = "environment"
DEFAULT = "default"


class EffectiveSetting(msgspec.Struct, frozen=True, kw_only=True):
    """`value` is masked where it is secret, and empty where nothing is set and there is no default."""

    variable: str
    value: str
    origin: str
    owner: str
    allowed: str


def effective_settings(env: Mapping[str, str]) -> tuple[list[EffectiveSetting], tuple[str, ...]]:
    """All settings in order, and warnings. Raises: SettingsError when the process would not start."""
    checked = read_environment(env)
    rows = [
        EffectiveSetting(
            variable=toggle_of(state.name),
            value="true" if state.enabled else "false",
            origin=ENVIRONMENT if toggle_of(state.name) in env else state.reason,
            owner=state.name,
            allowed="true, false, 1 or 0",
        )
        for state in checked.discovered.states
    ]
    for group, values in checked.values:
        for setting in settings_of([group]):
            given = env.get(setting.variable, "") != ""
            origin = ENVIRONMENT if given else DEFAULT
            value = setting.shown(getattr(values, setting.field))
            if setting.variable == ADMIN_KEY and not given:
                value, origin = _generated(checked.settings)
            rows.append(
                EffectiveSetting(
                    variable=setting.variable, value=value, origin=origin, owner=group.owner, allowed=setting.allowed
                )
            )
    return rows, checked.warnings


def _generated(settings: Settings) -> tuple[str, str]:
    """In development the key is made at the first start; production would have refused by now."""
    path = settings.data_path / FILE_NAME
    return (MASK, f"generated, in {path}") if path.exists() else ("", "will be generated at the first start")
