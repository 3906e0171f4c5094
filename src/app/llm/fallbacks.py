"""Aliases to ask when those before could not answer, when a request is too long for them, when content is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from app.llm.config import ByAlias, ModelsConfig
from app.llm.model import Mode
from plugins.contract.errors import SettingsError

Names = Mapping[str, tuple[str, ...]]


class Matching(Protocol):
    """Wildcards, as far as they are needed here."""

    def matches(self, alias: str) -> bool: ...


class Fallbacks(msgspec.Struct, frozen=True, kw_only=True):
    """By alias. `default`: for those that have none of their own."""

    general: Names = {}
    default: tuple[str, ...] = ()
    longer: Names = {}
    lenient: Names = {}

    def after(self, alias: str) -> tuple[str, ...]:
        """Each fallback and, before the next one, those that it falls back to, as at LiteLLM's proxy.

        No alias comes twice, so circles end.
        """
        seen = {alias}

        def walk(name: str) -> Iterator[str]:
            for other in self.general.get(name, ()):
                if other not in seen:
                    seen.add(other)
                    yield other
                    yield from walk(other)

        found = tuple(walk(alias))
        return found if alias in self.general else tuple(name for name in self.default if name != alias)


def read_fallbacks(config: ModelsConfig, file: str, modes: Mapping[str, Mode], wildcards: Matching) -> Fallbacks:
    """`modes`: of each alias that is named. Raises: SettingsError that names the place."""
    litellm, router = config.litellm_settings, config.router_settings
    default = tuple(router.default_fallbacks or litellm.default_fallbacks)
    for name in default:
        _check(name, f"{file}, default_fallbacks", modes, wildcards)

    def read(kind: str) -> Names:
        section = "router_settings" if getattr(router, kind) else "litellm_settings"
        given: ByAlias = getattr(router, kind) or getattr(litellm, kind)
        return _by_alias(given, f"{file}, {section}.{kind}", modes, wildcards)

    return Fallbacks(
        general=read("fallbacks"),
        default=default,
        longer=read("context_window_fallbacks"),
        lenient=read("content_policy_fallbacks"),
    )


def _by_alias(given: ByAlias, place: str, modes: Mapping[str, Mode], wildcards: Matching) -> Names:
    found: dict[str, list[str]] = {}
    for number, item in enumerate(given):
        for alias, others in item.items():
            for name in (alias, *others):
                _check(name, f"{place}[{number}]", modes, wildcards)
                if modes.get(name, "chat") != modes.get(alias, "chat"):
                    raise SettingsError(
                        f"{place}[{number}]: {alias!r} and {name!r} are not both chat or both embedding models"
                    )
            found.setdefault(alias, []).extend(others)
    return {alias: tuple(others) for alias, others in found.items()}


def _check(name: str, place: str, modes: Mapping[str, Mode], wildcards: Matching) -> None:
    if name not in modes and not wildcards.matches(name):
        raise SettingsError(f"{place}: {name!r} is no model_name of model_list ({_some(modes)})")


def _some(names: Iterable[str]) -> str:
    return "there are " + ", ".join(sorted(names)[:5])
