"""What can be called: alias → routes of targets. Built once for a file of MODELS_CONFIG, or the models on this machine.

It knows no moment: which of an alias's deployments is asked first is the router's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec

from app.errors import ModelNotFound
from app.llm.caching import CacheWish
from app.llm.config import AliasOf, ModelsConfig, read_models_config
from app.llm.deployments import (
    EMBED,
    EXTRACTIVE,
    LOCAL,
    OWN_MODELS,
    Defaults,
    checked_model,
    needs_price_file,
    own_target,
    price_name,
    target_id_of,
    target_of,
)
from app.llm.fallbacks import Fallbacks, read_fallbacks
from app.llm.model import Mode, Target
from app.llm.prices import known_models
from app.llm.wildcards import Wildcards
from app.llm.wires import Preference
from plugins.contract.errors import SettingsError

__all__ = ["EMBED", "EXTRACTIVE", "LOCAL", "OWN_MODELS", "Catalog", "Route", "load_catalog"]

MAX_ALIAS_CHARS = 256
"""Longer than any model's name."""

MAX_ROUTES = 1000
"""Routes of names that wildcards match: clients make them up."""

Strategy = Literal["in-order", "simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing"]

STRATEGIES: Mapping[str, Strategy] = {
    "simple-shuffle": "simple-shuffle",
    "usage-based-routing": "simple-shuffle",
    "usage-based-routing-v2": "simple-shuffle",
    "least-busy": "least-busy",
    "latency-based-routing": "latency-based-routing",
    "cost-based-routing": "cost-based-routing",
}
"""LiteLLM's names to ours."""

Groups = tuple[tuple[Target, ...], ...]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Of one alias: groups of deployments, its own and then each fallback's; and what stands in for it in need."""

    mode: Mode
    groups: Groups
    longer: Groups = ()
    lenient: Groups = ()
    cache: CacheWish | None = None
    is_fixed: bool = True
    """The order does not depend on the moment."""


class Catalog:
    """Aliases in the order of the configuration. `warnings`: what the configuration says that is not read."""

    def __init__(
        self,
        deployments: Mapping[str, Sequence[Target]],
        fallbacks: Fallbacks | None = None,
        warnings: Sequence[str] = (),
        *,
        strategy: Strategy = "in-order",
        names: Mapping[str, AliasOf] | None = None,
        wildcards: Wildcards | None = None,
    ) -> None:
        """`names`: more names for aliases."""
        self.warnings = tuple(warnings)
        self.strategy: Strategy = strategy
        self._deployments = {alias: tuple(targets) for alias, targets in deployments.items()}
        self._fallbacks = fallbacks or Fallbacks()
        self._names = names or {}
        self._wildcards = wildcards or Wildcards((), Defaults())
        known = (*self._deployments, *self._names)
        self._routes = {alias: self._route_of(alias) for alias in known}
        self._matched = lru_cache(maxsize=MAX_ROUTES)(self._route_of)

    def aliases(self) -> tuple[str, ...]:
        """As `GET /v1/models` lists them: wildcards as they stand, no hidden names."""
        shown = (name for name, of in self._names.items() if not of.hidden)
        return (*self._deployments, *shown, *self._wildcards.patterns)

    def targets(self) -> Iterable[Target]:
        """All that are named, those that a wildcard would make not among them."""
        for targets in self._deployments.values():
            yield from targets

    def known(self) -> Iterable[Target]:
        """All that metrics, breakers and traffic know: of each wildcard's deployments one that stands for its many."""
        yield from self.targets()
        yield from self._wildcards.standing_for()

    def target_ids(self) -> frozenset[str]:
        return frozenset(target.id for target in self.targets())

    def secrets(self) -> Iterable[tuple[str, str]]:
        """Parameters of all deployments, by name: some hold keys."""
        for target in self.targets():
            yield from ((name, str(value)) for name, value in target.params.items())
        yield from self._wildcards.parameters()

    def find(self, alias: str) -> Route | None:
        found = self._routes.get(alias)
        if found is None and len(alias) <= MAX_ALIAS_CHARS and self._wildcards.matches(alias):
            found = self._matched(alias)
        return found

    def route(self, alias: str) -> Route:
        """Raises: ModelNotFound."""
        found = self._routes.get(alias) or self.find(alias)
        if found is None:
            raise ModelNotFound(f"no model {alias[:200]!r}: GET /v1/models lists those there are")
        return found

    def chain(self, alias: str) -> tuple[Target, ...]:
        """The alias's own targets in order, then those of its fallbacks. Raises: ModelNotFound."""
        found: dict[str, Target] = {}
        for group in self.route(alias).groups:
            for target in group:
                found.setdefault(target.id, target)
        return tuple(found.values())

    def mode(self, alias: str) -> Mode:
        return self.route(alias).mode

    def _own(self, alias: str) -> tuple[Target, ...]:
        name = self._names[alias].model if alias in self._names else alias
        return self._deployments.get(name) or self._wildcards.targets(name)

    def _route_of(self, alias: str) -> Route:
        own = self._own(alias)
        name = self._names[alias].model if alias in self._names else alias
        others = (self._own(other) for other in self._fallbacks.after(name))
        # By default kinds do not mix: an embedding alias has no chat model to fall back to.
        groups = (own, *(group for group in others if group and group[0].mode == own[0].mode))
        longer = tuple(self._own(other) for other in self._fallbacks.longer.get(name, ()))
        lenient = tuple(self._own(other) for other in self._fallbacks.lenient.get(name, ()))
        is_fixed = self.strategy == "in-order" or all(len(group) == 1 for group in (*groups, *longer, *lenient))
        cache = next((target.cache for target in own if target.cache is not None), None)
        return Route(mode=own[0].mode, groups=groups, longer=longer, lenient=lenient, cache=cache, is_fixed=is_fixed)


def load_catalog(path: Path | None, env: Mapping[str, str], prefer: Preference = "auto") -> Catalog:
    """From the file at `path`, or the models on this machine alone. Raises: SettingsError."""
    if path is None:
        return embedded_catalog()
    config = read_models_config(path, env)
    if not config.model_list:
        own = embedded_catalog()
        return Catalog({alias: own.chain(alias) for alias in own.aliases()}, None, config.warnings)
    file, router = str(path), config.router_settings
    defaults = Defaults(
        timeout_s=router.timeout or config.litellm_settings.request_timeout,
        stream_timeout_s=router.stream_timeout,
        env=env,
        prefer=prefer,
    )
    wildcards = Wildcards(
        [(n, entry) for n, entry in enumerate(config.model_list) if "*" in entry.model_name], defaults, file
    )
    deployments = _deployments(config, file, defaults)
    for alias in (EXTRACTIVE, EMBED):  # documents need these two whatever the configuration says
        deployments.setdefault(alias, [own_target(alias)])
    names = {name: AliasOf(model=of) if isinstance(of, str) else of for name, of in router.model_group_alias.items()}
    for name, of in names.items():
        if not (of.model in deployments or wildcards.matches(of.model)):
            raise SettingsError(
                f"{file}, router_settings.model_group_alias: {name!r} is for {of.model!r}, which is no"
                " model_name of model_list"
            )
        if name in deployments:
            raise SettingsError(f"{file}, router_settings.model_group_alias: {name!r} is a model_name already")
    fallbacks = read_fallbacks(
        config, file, {alias: targets[0].mode for alias, targets in deployments.items()}, wildcards
    )
    return Catalog(
        deployments, fallbacks, config.warnings, strategy=_strategy(config, file), names=names, wildcards=wildcards
    )


def embedded_catalog() -> Catalog:
    """The models that need no key."""
    return Catalog({alias: [own_target(alias)] for alias in (LOCAL, EXTRACTIVE, EMBED)})


def _deployments(config: ModelsConfig, file: str, defaults: Defaults) -> dict[str, list[Target]]:
    entries = [(n, entry) for n, entry in enumerate(config.model_list) if "*" not in entry.model_name]
    known = known_models(price_name(entry) for _, entry in entries if needs_price_file(entry))
    deployments: dict[str, list[Target]] = {}
    ids: set[str] = set()
    for number, entry in entries:
        place = f"{file}, model_list[{number}]"
        model = checked_model(entry, place)
        target_id = target_id_of(entry, model, ids, place)
        target = target_of(entry, known.get(price_name(entry)), target_id, place, defaults)
        deployments.setdefault(entry.model_name, []).append(target)
    for alias, targets in deployments.items():
        modes = sorted({target.mode for target in targets})
        if len(modes) > 1:
            raise SettingsError(f"{file}: {alias!r} mixes {' and '.join(modes)} models: give them different names")
    return deployments


def _strategy(config: ModelsConfig, file: str) -> Strategy:
    """Without one, weights ask for a shuffle; without those the order of the file is the operator's."""
    given = config.router_settings.routing_strategy
    if given is None:
        weighted = any({"weight", "rpm", "tpm"} & entry.litellm_params.keys() for entry in config.model_list)
        return "simple-shuffle" if weighted else "in-order"
    if given not in STRATEGIES:
        raise SettingsError(f"{file}, router_settings.routing_strategy: {given!r} is none of {', '.join(STRATEGIES)}")
    return STRATEGIES[given]
